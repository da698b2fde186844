"""RESET: running statistics of batch norms, taken anew on data."""
from collections.abc import Iterable

from torch import nn

from mmreuse.registry import RENORMALIZERS
from mmreuse.renormalization.requirements import running_statistics
from mmreuse.statistics import measured_norms, reset_bn


@RENORMALIZERS.register_module(name='reset', needs=('samples',), requires=running_statistics)
def reset(model: nn.Module, loader: Iterable, *, samples: int | None = None) -> None:
    """Replace the running statistics of every batch norm by those of the data, in place.

    Averaged weights give features of other means and variances than the averaged statistics say
    (Jordan et al., *REPAIR*, 2023). A model without batch norms has nothing to reset and stays as it is.

    Args:
        model: Left in the mode it was in.
        loader: Batches of images, see :func:`mmreuse.statistics.passes.images_of`.
        samples: How many images to use, to the sample; None for all.

    Raises:
        DataError: The loader is empty or too short, or a value is not finite; the model is then unchanged.
    """
    if measured_norms(model):
        reset_bn(model, loader, samples)
