"""The layers of a traced network, alone and at any width."""
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from mmreuse.graph import TracedModel
from mmreuse.pruning.channels.parts import Part, tensor_parts, top_space
from mmreuse.utils.hooks import forward_hooks
from mmreuse.utils.modes import evaluating

#: What may stand behind a layer and belong to it, beside batch norms: an engine fuses it with the layer.
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.GELU, nn.ELU, nn.Sigmoid,
                nn.Tanh, nn.Identity)


@dataclass(frozen=True)
class LayerShape:
    """What the time of a layer depends on."""
    kind: str  # 'Conv2d', 'Linear', ...
    inputs: int  # channels, of all groups
    outputs: int
    groups: int
    settings: tuple  # class, kernel, stride, ...
    positions: tuple[int, ...]  # sizes of the input, channels left out
    behind: tuple[str, ...]  # norm and activation

    def example(self) -> Tensor:
        """Return an input of it."""
        before, after = (self.positions, ()) if self.kind == 'Linear' else (self.positions[:1], self.positions[1:])
        return torch.randn(*before, self.inputs, *after, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution or linear layer of a traced network."""
    name: str
    module: nn.Module
    part: Part  # of its weight
    positions: tuple[int, ...]
    behind: tuple[nn.Module, ...]
    places: int  # of its output: how many numbers a channel has
    tops: Mapping[str, str]  # by space of its axes, the one whose width says how much of it is left

    @property
    def writes(self) -> tuple[str, ...]:
        """Return the spaces that say how many outputs it has."""
        return self._along(lambda dim: dim == 0)

    @property
    def reads(self) -> tuple[str, ...]:
        """Return the spaces that say how many inputs it has."""
        return self._along(lambda dim: dim != 0)

    def _along(self, wanted: Callable[[int], bool]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.tops[space] for (dim, _), _, space in self.part.axes if wanted(dim)))

    def shape(self, shares: Mapping[str, float]) -> LayerShape:
        """Return its shape where spaces keep some shares of their members, and all others all."""
        shares = {name: shares.get(top, 1.) for name, top in self.tops.items()}
        module, (rows, columns, *_) = self.module, self.part.along(self.module.weight.shape, shares)
        outputs = round(len(module.weight) * rows)
        settings = {'class': f'{type(module).__module__}.{type(module).__qualname__}', 'bias': module.bias is not None}
        if isinstance(module, nn.Linear):
            groups, inputs = 1, round(module.in_features * columns)
        elif module.groups > 1 and module.weight.shape[1] == 1:
            inputs = groups = round(module.groups * rows)
        else:
            groups = round(module.groups * (1. if self.part.groups is None else shares[self.part.groups]))
            inputs = round(module.in_channels * columns)
        if isinstance(module, _ConvNd):
            settings |= {key: getattr(module, key) for key in ('kernel_size', 'stride', 'padding', 'dilation')}
        return LayerShape(_kind(module), inputs, outputs, groups, tuple(settings.items()), self.positions,
                          tuple(repr(each) if isinstance(each, _ACTIVATIONS) else 'norm' for each in self.behind))

    def build(self, shape: LayerShape) -> nn.Module:
        """Return a layer of a shape, with what stands behind it."""
        layer = deepcopy(self.module)  # which may be of a class of its own, with other padding, say
        layer.weight = nn.Parameter(torch.randn(shape.outputs, shape.inputs // shape.groups, *layer.weight.shape[2:]))
        if layer.bias is not None:
            layer.bias = nn.Parameter(torch.zeros(shape.outputs))
        if shape.kind == 'Linear':
            layer.in_features, layer.out_features = shape.inputs, shape.outputs
        else:
            layer.in_channels, layer.out_channels, layer.groups = shape.inputs, shape.outputs, shape.groups
        return nn.Sequential(layer, *(deepcopy(each) if isinstance(each, _ACTIVATIONS) else
                                      type(each)(shape.outputs) for each in self.behind)).cpu().eval()


def layers_of(graph: TracedModel, inputs: tuple[Any, ...], widths: Mapping[str, Any]) -> list[Layer]:
    """Return the layers that a network runs, in order.

    Args:
        graph: The traced network.
        inputs: What it is run on, e.g. as many images as are timed.
        widths: By name of the spaces whose width may change.
    """
    model = graph.model
    found = {name: module for name, module in model.named_modules() if _kind(module) is not None}
    parts = tensor_parts(graph, {f'{name}.weight': 1. for name in found})
    runs: list[tuple[nn.Module, Tensor, Tensor]] = []  # the tensors are kept, so that none gets the place of another

    def note(module: nn.Module, arguments: tuple, output: Any) -> None:
        if arguments and isinstance(arguments[0], Tensor) and isinstance(output, Tensor):
            runs.append((module, arguments[0], output))

    leaves = [module for module in model.modules() if not next(module.children(), None)]
    with evaluating(model), torch.no_grad(), forward_hooks(dict.fromkeys(leaves, note)):
        model(*inputs)
    names, layers = {module: name for name, module in found.items()}, []
    for place, (module, given, output) in enumerate(runs):
        if module in names:
            part = parts[f'{names[module]}.weight']
            spaces = {name for terms in part.factors() for _, name, _ in terms if name is not None}
            positions = given.shape[:-1] if isinstance(module, nn.Linear) else given.shape[:1] + given.shape[2:]
            layers.append(Layer(
                names[module], module, part, tuple(positions), tuple(_behind(runs[place:])),
                output.numel() // len(module.weight), {name: top_space(graph, name, widths).name for name in spaces}))
    return layers


def _kind(module: nn.Module) -> str | None:
    """Return the name of the layer that a module is, of whatever class; None if it is none of those that are timed."""
    for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d):
        if isinstance(module, kind):
            return kind.__name__
    return None


def _behind(runs: Sequence[tuple[nn.Module, Tensor, Tensor]]) -> list[nn.Module]:
    """Return the norm and activation that take the output of the first of some runs, and each other's."""
    (_, _, output), *following = runs
    found = []
    for module, given, after in following:
        if given is not output or not isinstance(module, (*_ACTIVATIONS, _BatchNorm)):
            break
        found.append(module)
        output = after
    return found
