"""Data as notebooks have them."""
from collections.abc import Iterable

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

#: For data that come without batches.
BATCH_SIZE = 64


def batches(data: Tensor | tuple[Tensor, ...] | Dataset | Iterable) -> Iterable:
    """Batches that can be gone through more than once.

    Args:
        data: Images (N, C, H, W); images and labels (N,) as a tuple; a data set of either; or batches.
    """
    if isinstance(data, Tensor):
        return data.split(BATCH_SIZE)
    if isinstance(data, tuple) and all(isinstance(part, Tensor) for part in data):
        data = TensorDataset(*data)
    if isinstance(data, Dataset):
        return DataLoader(data, BATCH_SIZE)
    return data if hasattr(data, '__len__') else list(data)
