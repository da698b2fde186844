"""Stanford 40 Actions in its stock layout."""
from mmreuse.datasets.fine_grained.published_split import PublishedSplit
from mmreuse.errors import DataError
from mmreuse.registry import DATASETS


@DATASETS.register_module()
class StanfordActions(PublishedSplit):
    """40 things that people do, the published split: 4000 images to train, 5532 to test.

    Yao et al., *Human Action Recognition by Learning Bases of Action Attributes and Parts*, 2011. ``data_root`` holds
    ``JPEGImages/`` and ``ImageSplits/``, where ``actions.txt`` names the actions in the order of the labels and
    ``<action>_<split>.txt`` the images of each.
    """

    images, archives = 'JPEGImages', 'the images and ImageSplits of the data set'

    def load_data_list(self) -> list[dict]:
        """Give ``dict(img_path, gt_label)`` of every image, action by action."""
        actions = [line.split('\t')[0].strip() for line in self.lines('ImageSplits/actions.txt')[1:]]
        if not actions:
            raise DataError(f'{self.found("ImageSplits/actions.txt")} names no actions: a line of headings, then one '
                            'for each, is expected. Unpack the ImageSplits of Stanford 40 Actions again.')
        self._metainfo.setdefault('classes', tuple(actions))
        return [self.sample(name, label) for label, action in enumerate(actions)
                for name in self.lines(f'ImageSplits/{action}_{self.split}.txt')]
