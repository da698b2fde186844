"""Modularize networks from a notebook."""
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from mmreuse.errors import ConfigError
from mmreuse.modularization import ModuleReport, ModulesReport, modularize_channels
from mmreuse.modularization import modularize as modularize_network
from mmreuse.modularization.structured.problem import ProblemClasses
from mmreuse.networks.references import Reference
from mmreuse.statistics.data import Data
from mmreuse.utils.configs.methods import options_of
from mmreuse.utils.names import refuse_other


@options_of(modularize_network, without=('validation', 'seed'))
@options_of(modularize_channels)
def modularize(network: Reference, data: Data, classes: Collection[Any] | None = None, *,
               method: str | None = None, problems: Mapping[str, ProblemClasses] | None = None,
               **options: Any) -> tuple[nn.Module | dict[str, nn.Module], ModuleReport | ModulesReport]:
    """Keep what some classes need of a trained classifier: weights, or whole channels, heads, units and blocks.

    ::

        cats, report = modularize(network, (images, labels), [3])   # class 3 against the rest, 15 % of the weights
        small, report = modularize(network, (images, labels), [3], method='channels', target=0.3)   # 30 % of the MACs
        print(report)                                               # recall of the module, a head alone, the original
        modules, report = modularize(network, data, problems=dict(cat=[3], dog=[5], pets=[3, 5]))
        save(network, 'pets.safetensors', modules=modules)          # one file, in which each takes what differs
        cats = load('pets.safetensors#cat')

    Masks are learned and leave zeros, see :func:`mmreuse.modularization.modularize`; channels are chosen and what is
    left is solved for in closed form, which gives smaller and faster networks, and those of many problems from one pass
    over the data, see :func:`mmreuse.modularization.modularize_channels`.

    Args:
        network: From images to scores, or its file; left as it is.
        data: Labelled images, see :func:`mmreuse.statistics.data.batches`.
        classes: In the order of the scores. One: the class against the rest. With ``'channels'`` also groups.
        method: ``'masks'`` or ``'channels'``; None for masks of some classes and channels of several problems.
        problems: In place of ``classes``, classes of several problems by name; of ``'channels'`` only.
        **options: Of the method: ``ratio``, ``epochs``, ...; ``target``, ``blocks``, ``samples``, ...; ``validation``,
            ``seed``.

    Returns:
        tuple: A plain network, or one for each problem by name; and the recall of each label beside its baselines.

    Raises:
        ConfigError: A number is out of range, classes repeat, or a layer cannot be masked.
        DataError: A class has no samples, or one class has no others to be told from.
    """
    if method is None:
        method = 'masks' if problems is None else 'channels'
    refuse_other('method', method, ('masks', 'channels'))
    if (classes is None) == (problems is None):
        raise ConfigError('modularize: give either classes, of one module, or problems, of several by name: '
                          "problems=dict(cat=['cat'], pets=['cat', 'dog']).")
    if problems is not None and method == 'masks':
        raise ConfigError('modularize: masks are learned for one problem at a time. Call it once for each problem, '
                          "with its classes, or leave out method='masks': channels of all problems are chosen from "
                          'one pass over the data.')
    if method == 'masks':
        module = modularize_network(network, data, classes, **options)
        return module, module.report
    modules = modularize_channels(network, data, problems or {'module': classes}, **options)
    if problems is None:
        return modules['module'], modules['module'].report
    return modules, ModulesReport({name: module.report for name, module in modules.items()})
