"""Set weights of a network to zero."""
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from mmreuse.pruning import prune as prune_model
from mmreuse.pruning.scoring import check_saliency
from mmreuse.pruning.selection import check_sparsity
from mmreuse.registry import JOBS
from mmreuse.utils.configs.methods import MethodLike, method_name


def _check(options: Mapping[str, Any]) -> None:
    check_sparsity(options['sparsity'])
    check_saliency(options.get('saliency', 'magnitude'), options.get('scope', 'global'), options.get('update'),
                  options.get('fisher'))


def simpler(saliency: MethodLike, seed: int) -> MethodLike:
    """Return the saliency to compare with: magnitudes, or random numbers for magnitudes themselves."""
    return dict(type='random', seed=seed) if method_name(saliency) == 'magnitude' else 'magnitude'


def _other_choice(networks: Sequence[nn.Module], result: nn.Module, *, seed: int, saliency: MethodLike = 'magnitude',
                  **same: Any) -> nn.Module:
    return prune(networks, **{**same, 'saliency': simpler(saliency, seed), 'update': None})


@JOBS.register_module(needs=('labelled', 'validation'), equal_cost=_other_choice, check=_check)
def prune(networks: Sequence[nn.Module], *, labelled: Iterable | None = None, validation: Iterable | None = None,
          sparsity: float, saliency: MethodLike = 'magnitude', scope: str = 'global', update: str | None = None,
          fisher: Mapping[str, Any] | None = None, modules: Sequence[str] | None = None, exclude: Sequence[str] = (),
          renormalizers: Sequence[MethodLike] = ()) -> nn.Module:
    """Prune a network to a sparsity, see :func:`mmreuse.pruning.prune`."""
    return prune_model(networks[0], labelled, sparsity, saliency, scope=scope, update=update, fisher=fisher,
                       modules=modules, exclude=exclude, renormalizers=renormalizers, validation=validation)
