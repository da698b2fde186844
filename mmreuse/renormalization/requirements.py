"""Which renormalizers a network has the layers for."""
from torch import nn

from mmreuse.errors import SpaceError
from mmreuse.registry import RENORMALIZERS
from mmreuse.renormalization.bias import bias_calibration, bias_removal, zero_bias
from mmreuse.renormalization.reset import reset
from mmreuse.renormalization.target_layers import NORMS
from mmreuse.statistics.bn import measured_norms
from mmreuse.utils.methods import Method, find_method


def check_fit(renormalizer: Method, model: nn.Module) -> None:
    """Make sure, without data, that a network has what a renormalizer works on.

    Args:
        renormalizer: Name, config or function of :data:`mmreuse.registry.RENORMALIZERS`.
        model: Of the architecture that is to be put right; its weights do not matter.

    Raises:
        SpaceError: It lacks these layers, or has others that stand against it; names them.
        ConfigError: There is no such renormalizer.
    """
    function = find_method(RENORMALIZERS, renormalizer)
    function = getattr(function, 'func', function)
    norms = [f"'{name}' ({type(module).__name__})" for name, module in model.named_modules()
             if isinstance(module, NORMS)]
    if function is reset and not measured_norms(model):
        raise SpaceError(
            f"renormalizer 'reset' has nothing to reset: {type(model).__name__} has no batch norm with running "
            f"statistics ({'its first norm is ' + norms[0] if norms else 'there are no norms'}). Use 'repair' or "
            "'rescale'.")
    if function is bias_calibration and norms:
        raise SpaceError(
            f"renormalizer 'bias_calibration' is for networks without norms; {type(model).__name__} has {norms[0]}: "
            "features behind it have the same size at any depth. Use 'reset' with batch norms, 'repair' with others.")
    if function in (bias_removal, zero_bias) and not any(
            isinstance(getattr(module, 'bias', None), nn.Parameter) for module in model.modules()):
        raise SpaceError(f"renormalizer '{function.__name__}': {type(model).__name__} has no biases.")
