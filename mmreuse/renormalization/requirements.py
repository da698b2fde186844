"""Requirements of renormalizers on a network; each returns what is missing, or None."""
from torch import nn

from mmreuse.errors import SpaceError
from mmreuse.registry import RENORMALIZERS
from mmreuse.renormalization.target_layers import NORMS
from mmreuse.statistics import measured_norms
from mmreuse.utils.configs.methods import MethodLike, find_method


def check_fit(renormalizer: MethodLike, model: nn.Module) -> None:
    """Make sure, without data, that a network has what a renormalizer works on.

    Args:
        renormalizer: Name, config or function of :data:`mmreuse.registry.RENORMALIZERS`.
        model: Of the architecture to renormalize; its weights do not matter.

    Raises:
        SpaceError: It lacks these layers, or has others that stand against it; names them.
        ConfigError: There is no such renormalizer.
    """
    method = find_method(RENORMALIZERS, renormalizer)
    lack = None if method.requires is None else method.requires(model)
    if lack is not None:
        raise SpaceError(f"renormalizer '{method.name}' {lack}")


def running_statistics(model: nn.Module) -> str | None:
    """Require a batch norm with running statistics."""
    if measured_norms(model):
        return None
    norms = _norms(model)
    return (f'has nothing to reset: {type(model).__name__} has no batch norm with running statistics '
            f"({'its first norm is ' + norms[0] if norms else 'there are no norms'}). Use 'repair' or 'rescale'.")


def no_norms(model: nn.Module) -> str | None:
    """Require that there are no norms."""
    norms = _norms(model)
    return None if not norms else (
        f'is for networks without norms; {type(model).__name__} has {norms[0]}: features behind it have the same size '
        "at any depth. Use 'reset' with batch norms, 'repair' with others.")


def biases(model: nn.Module) -> str | None:
    """Require a bias, of a layer of whatever kind."""
    if any(isinstance(getattr(module, 'bias', None), nn.Parameter) for module in model.modules()):
        return None
    return f'has nothing to remove: {type(model).__name__} has no biases.'


def _norms(model: nn.Module) -> list[str]:
    return [f"'{name}' ({type(module).__name__})" for name, module in model.named_modules()
            if isinstance(module, NORMS)]
