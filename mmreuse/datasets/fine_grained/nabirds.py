"""NABirds in its stock layout."""
from mmreuse.datasets.fine_grained.published_split import PublishedSplit
from mmreuse.errors import DataError
from mmreuse.registry import DATASETS


@DATASETS.register_module()
class NABirds(PublishedSplit):
    """555 visual categories of birds, the published split: 23 929 images to train, 24 633 to test.

    Van Horn et al., *Building a bird recognition app and large scale dataset with citizen scientists*, 2015.
    ``data_root`` holds ``images/``, ``images.txt``, ``image_class_labels.txt``, ``train_test_split.txt`` and
    ``classes.txt``. The ids in the files name a hierarchy of 1011 classes, of which images have 555: these,
    ascending, become the labels 0 to 554 in both splits.
    """

    images, archives = 'images', 'nabirds.tar.gz'

    def load_data_list(self) -> list[dict]:
        """Give ``dict(img_path, gt_label)`` of every image of the split."""
        files, ids, in_train = (self._table(name) for name in
                                ('images.txt', 'image_class_labels.txt', 'train_test_split.txt'))
        if not files.keys() == ids.keys() == in_train.keys():
            raise DataError(f'{self.data_root}: images.txt, image_class_labels.txt and train_test_split.txt are not of '
                            'the same images. Unpack the data set again.')
        labels = {number: label for label, number in enumerate(sorted(set(ids.values()), key=int))}
        names = self._table('classes.txt')
        self._metainfo.setdefault('classes', tuple(names.get(number, '') for number in labels))
        wanted = '1' if self.split == 'train' else '0'
        return [self.sample(file, labels[ids[key]]) for key, file in files.items() if in_train[key] == wanted]

    def _table(self, name: str) -> dict[str, str]:
        """Read a table: the rest of each line by its first word."""
        try:
            return {key: value.strip() for key, value in (line.split(maxsplit=1) for line in self.lines(name))}
        except ValueError as error:
            raise DataError(f'{self.found(name)}: a line does not have an id and a value. Unpack the data set again.'
                            ) from error
