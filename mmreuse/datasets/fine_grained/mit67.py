"""MIT Indoor Scenes in its stock layout."""
from pathlib import Path

from mmpretrain.datasets import BaseDataset

from mmreuse.datasets.pictures import class_folders
from mmreuse.errors import DataError
from mmreuse.registry import DATASETS
from mmreuse.utils.names import nearest, refuse_other

_LISTS = dict(train='TrainImages.txt', test='TestImages.txt')


@DATASETS.register_module()
class MIT67(BaseDataset):
    """67 kinds of indoor scenes, the published split: 5360 pictures to train, 1340 to test.

    Quattoni and Torralba, *Recognizing Indoor Scenes*, 2009. ``data_root`` holds ``Images/<scene>/``,
    ``TrainImages.txt`` and ``TestImages.txt``. Labels follow the scenes' names in alphabetical order.

    Args:
        data_root: The folder.
        split: ``'train'`` or ``'test'``.
        **kwargs: Of mmpretrain's ``BaseDataset``: ``pipeline``, ``indices``, ...

    Raises:
        ConfigError: There is no such split.
        DataError: The pictures or the list of the split are missing, or the list names a scene without a folder.
    """

    def __init__(self, data_root: str, split: str = 'train', **kwargs) -> None:
        refuse_other('MIT67: split', split, _LISTS)
        super().__init__(ann_file=_LISTS[split], data_root=data_root, data_prefix='Images',
                         **{'test_mode': split == 'test', **kwargs})

    def load_data_list(self) -> list[dict]:
        """Give ``dict(img_path, gt_label)`` of every picture of the list, in its order."""
        folder = Path(self.img_prefix)
        scenes = class_folders(folder) if folder.is_dir() else []
        if not scenes or not Path(self.ann_file).is_file():
            raise DataError(f"MIT67: there are no scenes in '{folder}', or there is no '{self.ann_file}'. Unpack "
                            'indoorCVPR_09.tar and the two lists there, or set MMREUSE_DATA_ROOT to the folder that '
                            'holds the data sets.')
        labels = {scene: label for label, scene in enumerate(scenes)}
        names = Path(self.ann_file).read_text(encoding='utf-8').split('\n')
        names = [name.strip() for name in names if name.strip()]
        strange = next((name for name in names if name.split('/')[0] not in labels), None)
        if strange is not None:
            raise DataError(f"{self.ann_file}: '{strange}' is of a scene without a folder in '{folder}'. "
                            f'{nearest(strange.split("/")[0], labels)} Unpack indoorCVPR_09.tar again.')
        self._metainfo.setdefault('classes', tuple(scenes))
        return [dict(img_path=str(folder / name), gt_label=labels[name.split('/')[0]]) for name in names]
