"""Stanford 40 Actions in its stock layout."""
from pathlib import Path

from mmpretrain.datasets import BaseDataset

from mmreuse.errors import DataError
from mmreuse.registry import DATASETS
from mmreuse.utils.names import refuse_other


@DATASETS.register_module()
class StanfordActions(BaseDataset):
    """40 things that people do, the published split: 4000 pictures to train, 5532 to test.

    Yao et al., *Human Action Recognition by Learning Bases of Action Attributes and Parts*, 2011. ``data_root`` holds
    ``JPEGImages/`` and ``ImageSplits/``, where ``actions.txt`` names the actions in the order of the labels and
    ``<action>_<split>.txt`` the pictures of each.

    Args:
        data_root: The folder.
        split: ``'train'`` or ``'test'``.
        **kwargs: Of mmpretrain's ``BaseDataset``: ``pipeline``, ``indices``, ...

    Raises:
        ConfigError: There is no such split.
        DataError: A list is missing or of another kind.
    """

    def __init__(self, data_root: str, split: str = 'train', **kwargs) -> None:
        refuse_other('StanfordActions: split', split, ('train', 'test'))
        self.split = split
        super().__init__(ann_file='ImageSplits/actions.txt', data_root=data_root, data_prefix='JPEGImages',
                         **{'test_mode': split == 'test', **kwargs})

    def load_data_list(self) -> list[dict]:
        """Give ``dict(img_path, gt_label)`` of every picture, action by action."""
        actions = [line.split('\t')[0].strip() for line in self._lines(Path(self.ann_file))[1:]]
        if not actions:
            raise DataError(f'{self.ann_file} names no actions: a line of headings, then one for each, is expected. '
                            'Unpack the ImageSplits of Stanford 40 Actions again.')
        self._metainfo.setdefault('classes', tuple(actions))
        return [dict(img_path=str(Path(self.img_prefix) / name), gt_label=label) for label, action in enumerate(actions)
                for name in self._lines(Path(self.ann_file).parent / f'{action}_{self.split}.txt')]

    @staticmethod
    def _lines(path: Path) -> list[str]:
        if not path.is_file():
            raise DataError(f"StanfordActions: there is no '{path}'. Unpack the pictures and ImageSplits of the data "
                            'set there, or set MMREUSE_DATA_ROOT to the folder that holds the data sets.')
        return [line.strip() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
