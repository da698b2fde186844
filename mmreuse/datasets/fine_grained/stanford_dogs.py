"""Stanford Dogs in its stock layout."""
from scipy.io import loadmat

from mmreuse.datasets.fine_grained.published_split import PublishedSplit
from mmreuse.errors import DataError
from mmreuse.registry import DATASETS


@DATASETS.register_module()
class StanfordDogs(PublishedSplit):
    """120 breeds of dogs, the published split: 12 000 images to train, 8580 to test.

    Khosla et al., *Novel Dataset for Fine-Grained Image Categorization*, 2011. ``data_root`` holds ``Images/``,
    ``train_list.mat`` and ``test_list.mat``, as images.tar and lists.tar unpack.
    """

    images, archives = 'Images', 'images.tar and lists.tar of the data set'

    def load_data_list(self) -> list[dict]:
        """Give ``dict(img_path, gt_label)`` of every image; the labels in the list count from 1."""
        path = self.found(f'{self.split}_list.mat')
        try:
            lists = loadmat(path, variable_names=['file_list', 'labels'])
            files = [str(cell.item()) for cell in lists['file_list'].ravel()]
            labels = [int(label) - 1 for label in lists['labels'].ravel()]
        except (KeyError, ValueError, AttributeError) as error:
            raise DataError(f'{path} is not a list of Stanford Dogs ({error}). Unpack lists.tar again.') from error
        breeds = {label: name.split('/')[0].split('-', 1)[-1] for name, label in zip(files, labels, strict=True)}
        self._metainfo.setdefault('classes', tuple(breeds.get(label, '') for label in range(max(labels) + 1)))
        return [self.sample(name, label) for name, label in zip(files, labels, strict=True)]
