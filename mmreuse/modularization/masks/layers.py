"""See every use of the weights of convolutions and linear layers, whoever makes it."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmreuse.graph import DECOMPOSITIONS, plain_name

_CONVOLUTION = ('input', 'weight', 'bias', 'stride', 'padding', 'dilation', 'groups')
_TRANSPOSED = ('input', 'weight', 'bias', 'stride', 'padding', 'output_padding', 'groups', 'dilation')
_ARGUMENTS = {'linear': _CONVOLUTION[:3], **{f'conv{rank}d': _CONVOLUTION for rank in (1, 2, 3)},
              **{f'conv_transpose{rank}d': _TRANSPOSED for rank in (1, 2, 3)}}


@dataclass(frozen=True, eq=False)
class LayerCall:
    """One use of weights."""
    name: str  # 'linear', 'conv2d', 'conv_transpose1d', ...
    function: Callable
    arguments: dict[str, Any]  # by name: input, weight, bias, stride, ...
    output: Tensor

    @property
    def rank(self) -> int:
        """Return the number of axes that the weights slide over."""
        return 0 if self.name == 'linear' else int(self.name[-2])

    @property
    def groups(self) -> int:
        return self.arguments.get('groups', 1)

    def positions(self) -> Tensor:
        """Return the input, (samples and positions, channels)."""
        x = self.arguments['input']
        return x.movedim(x.dim() - self.rank - 1, -1).reshape(-1, x.shape[x.dim() - self.rank - 1])

    def per_axis(self, name: str, default: int) -> tuple[int, ...]:
        """Return an argument such as ``dilation``, a number for each axis."""
        value = self.arguments.get(name, default)
        return tuple(value) if isinstance(value, (tuple, list)) else (value,) * self.rank


class LayerWatch(TorchFunctionMode):
    """Shows every use of weights to :meth:`see_layer` and whatever else runs to :meth:`see_other`.

    Functions are watched, not modules: attention never calls its output projection as one, for instance.
    """

    def see_layer(self, call: LayerCall) -> None:
        """Take notice of a convolution or a linear layer."""

    def see_other(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        """Take notice of any other operation."""

    def __torch_function__(self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = plain_name(function)
        if name in DECOMPOSITIONS:
            with self:
                return DECOMPOSITIONS[name](*args, **kwargs)
        output = function(*args, **kwargs)
        if name in _ARGUMENTS:
            arguments = dict(zip(_ARGUMENTS[name], args, strict=False)) | kwargs
            self.see_layer(LayerCall(name, function, arguments, output))
        else:
            self.see_other(name, args, kwargs, output)
        return output


def parameter_names(model: nn.Module) -> dict[int, str]:
    """Return the names of a network's parameters, by identity."""
    return {id(tensor): name for name, tensor in model.named_parameters()}
