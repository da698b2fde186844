"""MIT Indoor Scenes in its stock layout."""
from pathlib import Path

from mmreuse.datasets.fine_grained.published_split import PublishedSplit
from mmreuse.datasets.image_files import class_folders
from mmreuse.errors import DataError
from mmreuse.registry import DATASETS
from mmreuse.utils.names import nearest


@DATASETS.register_module()
class MIT67(PublishedSplit):
    """67 kinds of indoor scenes, the published split: 5360 images to train, 1340 to test.

    Quattoni and Torralba, *Recognizing Indoor Scenes*, 2009. ``data_root`` holds ``Images/<scene>/``,
    ``TrainImages.txt`` and ``TestImages.txt``. Labels follow the scenes' names in alphabetical order.
    """

    images, archives = 'Images', 'indoorCVPR_09.tar and the two lists'

    def load_data_list(self) -> list[dict]:
        """Give ``dict(img_path, gt_label)`` of every image of the list, in its order."""
        names, folder = self.lines(f'{self.split.title()}Images.txt'), Path(self.img_prefix)
        scenes = class_folders(folder)
        labels = {scene: label for label, scene in enumerate(scenes)}
        strange = next((name for name in names if name.split('/')[0] not in labels), None)
        if strange is not None:
            raise DataError(f"{self.data_root}: '{strange}' is of a scene without a folder in '{folder}'. "
                            f'{nearest(strange.split("/")[0], labels)} Unpack indoorCVPR_09.tar again.')
        self._metainfo.setdefault('classes', tuple(scenes))
        return [self.sample(name, labels[name.split('/')[0]]) for name in names]
