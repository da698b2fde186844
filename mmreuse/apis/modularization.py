"""Modularize networks from a notebook."""
from collections.abc import Collection
from typing import Any

from torch import nn

from mmreuse.modularization import ModuleReport
from mmreuse.modularization import modularize as modularize_network
from mmreuse.networks.references import Reference
from mmreuse.statistics.data import Data
from mmreuse.utils.configs.methods import options_of


@options_of(modularize_network)
def modularize(network: Reference, data: Data, classes: Collection[int],
               **options: Any) -> tuple[nn.Sequential, ModuleReport]:
    """Learn which weights of a trained classifier some classes need, and keep only those.

    ::

        cats, report = modularize(network, (images, labels), [3])   # class 3 against the rest, 15 % of the weights
        print(report)                                               # recall of the module, a head alone, the original

    Args:
        network: From images to scores, or its file; left as it is.
        data: Labelled images, see :func:`mmreuse.statistics.data.batches`.
        classes: Ids, in the order of the scores. One: the class against the rest.
        **options: Of :func:`mmreuse.modularization.modularize`: ``ratio``, ``epochs``, ``validation``, ``seed``, ...

    Returns:
        tuple: A plain network with zeros and the head behind it; and the recall of each label beside its baselines.

    Raises:
        ConfigError: A number is out of range, classes repeat, or a layer cannot be masked.
        DataError: A class has no samples, or one class has no others to be told from.
    """
    module = modularize_network(network, data, classes, **options)
    return module, module.report
