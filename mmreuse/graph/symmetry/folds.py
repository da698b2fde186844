"""Vectors of norms and of residual branches that can move into the layers around them, exactly."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mmreuse.graph.spaces.derive import Axis, Derivation
from mmreuse.graph.symmetry.frames import ANY, ROTATE
from mmreuse.graph.symmetry.groups import Gauges, Node

#: Operations whose vectors may be None.
NORMS = frozenset(('layer_norm', 'rms_norm'))


@dataclass(frozen=True, eq=False)
class Slot:
    """An axis of a parameter, and the element of a vector that belongs to each place along it."""
    key: str
    dim: int
    order: Tensor  # (length of the axis,) or -1: none


@dataclass(frozen=True, eq=False)
class Fold:
    """A gain multiplied into the layers that read or write what it scales."""
    parameter: str
    slots: tuple[Slot, ...]
    operation: str
    bias: str | None  # of the same norm, where the gain goes forward

    def apply(self, model: nn.Module) -> None:
        """Change a network in place."""
        gain = model.get_parameter(self.parameter).double().flatten()
        for slot in self.slots:
            _multiply(model.get_parameter(slot.key), slot, gain)
        if self.bias is not None and _holds(model, self.bias):
            bias = model.get_parameter(self.bias)
            bias.copy_(bias.double() / gain.reshape(bias.shape))
        _drop(model, self.parameter, self.operation)


@dataclass(frozen=True, eq=False)
class FoldBias:
    """A bias of a norm added to the biases of the layers that read it."""
    parameter: str
    slots: tuple[Slot, ...]
    outputs: tuple[int, ...]  # axis of each reader that it writes along
    operation: str

    def apply(self, model: nn.Module) -> None:
        """Change a network in place; layers that have no bias get one."""
        vector = model.get_parameter(self.parameter).double().flatten()
        for slot, output in zip(self.slots, self.outputs, strict=True):
            weight = model.get_parameter(slot.key)
            each = torch.where(slot.order >= 0, vector[slot.order.clamp(min=0)], 0.)
            product = weight.double() * each.reshape([-1 if dim == slot.dim else 1 for dim in range(weight.dim())])
            shift = product.sum([dim for dim in range(weight.dim()) if dim != output])
            bias = _bias_of(model, slot.key, shift)
            bias.copy_(bias.double() + shift)
        _drop(model, self.parameter, self.operation)


@dataclass(frozen=True, eq=False)
class Centre:
    """A stream of which every norm takes the mean away, centred where it is written."""
    parameter: str  # name of the space
    axes: tuple[Axis, ...]
    size: int

    def apply(self, model: nn.Module) -> None:
        """Change a network in place."""
        for axis in self.axes:
            parameter = model.get_parameter(axis.tensor)
            values = parameter.double().movedim(axis.dim, 0).clone()
            places = axis.index.argsort(stable=True)[(axis.index < 0).sum():].reshape(self.size, -1)
            rows = values[places.flatten()].reshape(*places.shape, *values.shape[1:])
            values[places.flatten()] = (rows - rows.mean(0)).flatten(0, 1)
            parameter.copy_(values.movedim(0, axis.dim))


Edit = Fold | FoldBias | Centre


def _multiply(parameter: Tensor, slot: Slot, gain: Tensor) -> None:
    each = torch.where(slot.order >= 0, gain[slot.order.clamp(min=0)], 1.)
    shape = [-1 if dim == slot.dim else 1 for dim in range(parameter.dim())]
    parameter.copy_(parameter.double() * each.reshape(shape))


def _holds(model: nn.Module, key: str) -> bool:
    module, _, leaf = key.rpartition('.')
    return model.get_submodule(module)._parameters.get(leaf) is not None


def _drop(model: nn.Module, key: str, operation: str) -> None:
    """Take a parameter out of a network: norms do without one, products get the number 1."""
    name, _, leaf = key.rpartition('.')
    module = model.get_submodule(name)
    old = module._parameters.pop(leaf)
    if operation in NORMS:
        module.register_parameter(leaf, None)
        if hasattr(module, 'elementwise_affine') and leaf == 'weight':
            module.elementwise_affine = False
    else:
        module.register_buffer(leaf, torch.ones((), dtype=old.dtype, device=old.device), persistent=False)


def _bias_of(model: nn.Module, key: str, shift: Tensor) -> Tensor:
    """Return the bias beside a weight, made where there is none."""
    name, _, leaf = key.rpartition('.')
    module, weight = model.get_submodule(name), model.get_parameter(key)
    leaf = leaf.replace('weight', 'bias')
    if module._parameters.get(leaf) is None and isinstance(module, nn.Linear | _ConvNd):
        setattr(module, leaf, nn.Parameter(torch.zeros_like(shift, dtype=weight.dtype, device=weight.device)))
    return getattr(module, leaf)


# -- where they are ------------------------------------------------------------------------


class _Class:
    """The axes of one class of features, and the frames that they stand in."""

    def __init__(self, derivation: Derivation, gauges: Gauges, number: int) -> None:
        self.number = number
        self.axes = derivation.found.axes[number]
        self.origins = derivation.found.origins[number]
        signs = [gauges.signs(number, label, lay) or {} for label, lay in self.origins]
        #: By axis: the sign in each gauge where it is the same at every place, None where places differ.
        self.signs: list[dict[Node, int | None]] = [
            {root: _one(sign[axis.index >= 0]) for root, sign in each.items()}
            for axis, each in zip(self.axes, signs, strict=True)]

    def factor(self, number: int) -> tuple[Node, Node] | None:
        """Return the frames between which a vector of one number per place scales; None for other axes."""
        label, _ = self.origins[number]
        axis, signs = self.axes[number], self.signs[number]
        vector = torch.Size(label.shape).numel() == len(axis.index)
        reads = [root for root, sign in signs.items() if sign == -1]
        writes = [root for root, sign in signs.items() if sign == 1]
        factor = len(label.uses) == 1 and label.uses[0].reads and label.uses[0].writes
        return (reads[0], writes[0]) if factor and vector and len(reads) == len(writes) == 1 else None

    def within(self, root: Node, but: int) -> list[int]:
        """Return the axes that stand in a frame, other than one."""
        return [number for number, signs in enumerate(self.signs) if root in signs and number != but]

    def slot(self, vector: int, number: int) -> Slot | None:
        """Say which element of a vector belongs to each place of another axis; None where that is not one each."""
        own, axis = self.axes[vector].index, self.axes[number]
        if axis.shape is not None or axis.groups > 1:
            return None
        size = int(own.max()) + 1
        places = own.argsort(stable=True)[(own < 0).sum():].reshape(size, -1)
        rank = axis.index.argsort(stable=True)[(axis.index < 0).sum():].reshape(size, -1)
        if places.shape[1] not in (1, rank.shape[1]):
            return None
        order = torch.full((len(axis.index),), -1)
        order[rank] = places.expand(rank.shape)
        return Slot(axis.tensor, axis.dim, order)


def _one(signs: Tensor) -> int | None:
    return int(signs[0]) if len(signs) and bool((signs == signs[0]).all()) else None


def _linear_gauges(derivation: Derivation) -> Gauges:
    """Return the frames as linear operations alone join them."""
    links = [link for link in derivation.found.links if not link.factor and not (link.other and link.allowed == ROTATE)]
    return derivation.found.gauges(links)


def find_folds(derivation: Derivation, model: nn.Module) -> tuple[list[Edit], list[str]]:
    """Return the vectors that can be folded, biases before gains, and the names of those of norms that cannot."""
    gauges, edits, left = _linear_gauges(derivation), [], []
    shared = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for number in derivation.found.axes:
        item = _Class(derivation, gauges, number)
        for place, axis in enumerate(item.axes):
            frames = item.factor(place)
            if frames is None or axis.tensor not in parameters:
                continue
            found = _forward(item, gauges, place, frames[1]) or _backward(item, gauges, place, frames[0])
            keys = {slot.key for edit in found for slot in edit.slots} | {edit.parameter for edit in found}
            if found and all(shared[id(parameters[key])] == 1 for key in keys):
                edits += found
            else:
                left.append(axis.tensor)
    known = {edit.parameter for edit in edits} | set(left)
    left += [key for label in derivation.found.labels for key in [label.key]
             if key not in known and any(use.operation in NORMS for use in label.uses)]
    return edits, left


def _forward(item: _Class, gauges: Gauges, vector: int, frame: Node) -> list[Edit]:
    """Fold into what reads: nothing but the norm's own bias may stand between."""
    if gauges.gauges[gauges.find(frame)[0]].allowed != ANY:
        return []
    own, use = item.axes[vector].tensor, item.origins[vector][0].uses[0]
    readers, biases = [], []
    for number in item.within(frame, vector):
        axis, sign, label = item.axes[number], item.signs[number][frame], item.origins[number][0]
        if axis.role == 'read' and sign == -1:
            readers.append(number)
        elif axis.tensor.rpartition('.')[0] == own.rpartition('.')[0] and sign == 1 and (
                label.uses[0].operation in (use.operation, 'add')):
            biases.append(number)
        else:
            return []
    slots = [item.slot(vector, number) for number in readers]
    if not slots or any(slot is None for slot in slots) or len(biases) > 1:
        return []
    bias = item.axes[biases[0]].tensor if biases else None
    fold = Fold(own, tuple(slots), use.operation, bias)
    if bias is None or use.operation not in NORMS:
        return [fold] if bias is None else []
    outputs = tuple(_output_of(item.axes[number]) for number in readers)
    return [FoldBias(bias, tuple(slots), outputs, use.operation), fold]


def _output_of(axis: Axis) -> int:
    """Return the axis of a weight that is not read: the first, or the second of one that is read along the first."""
    return 1 if axis.dim == 0 else 0


def _backward(item: _Class, gauges: Gauges, vector: int, frame: Node) -> list[Edit]:
    """Fold into what writes: nothing else may read that."""
    if gauges.gauges[gauges.find(frame)[0]].allowed != ANY:
        return []
    others = item.within(frame, vector)
    if not others or any(item.signs[number][frame] != 1 for number in others):
        return []
    slots = [item.slot(vector, number) for number in others]
    written = any(item.axes[number].role == 'write' for number in others)
    if not written or any(slot is None for slot in slots):
        return []
    return [Fold(item.axes[vector].tensor, tuple(slots), item.origins[vector][0].uses[0].operation, None)]


def find_centres(derivation: Derivation) -> list[Edit]:
    """Return the streams of which everything that reads them takes the mean away."""
    gauges, found = _linear_gauges(derivation), []
    normed: dict[Node, bool] = {}
    for link in derivation.found.links:
        if link.other and link.allowed == ROTATE:
            for number, (copies, whole) in gauges.present(link.ids).items():
                root = gauges.find((number, link.frame, copies[0]))[0]
                normed[root] = normed.get(root, True) and link.centred and whole
    for root, centred in normed.items():
        number = root[0]
        item = _Class(derivation, gauges, number)
        axes = [(axis, signs.get(root)) for axis, signs in zip(item.axes, item.signs, strict=True) if root in signs]
        plain = all(sign == 1 and axis.shape is None and axis.groups == 1 for axis, sign in axes)
        if centred and plain and axes and gauges.gauges[root].allowed == ANY and number in derivation.names:
            size = int((derivation.found.class_of == number).sum())
            found.append(Centre(derivation.names[number], tuple(axis for axis, _ in axes), size))
    return found
