"""Proofs that repair: what a permutation shows to be fixed is held, and spaces are derived again."""
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmreuse.errors import SpaceError
from mmreuse.graph.maps.linear_maps import Permute
from mmreuse.graph.proof.doubles import run_in_double
from mmreuse.graph.proof.verify import Case, Proof
from mmreuse.graph.spaces.operations import Pin, plain_name
from mmreuse.graph.spaces.source_lines import calling_line
from mmreuse.graph.symmetry.groups import DESCRIPTIONS, Group
from mmreuse.graph.traced_model import Held, TracedModel
from mmreuse.graph.tracing import trace
from mmreuse.graph.values import tensors_within
from mmreuse.utils.hooks import running_modules

#: What a space is taken for where the proof refutes its group.
WEAKER: dict[Group, Group] = {'invertible': 'orthogonal', 'orthogonal': 'permutation', 'scaled': 'permutation'}
#: Rounds in which a wrong space is split into what moves; later ones hold it as a whole.
GENTLE = 3
#: Rounds after which a network is given up.
ROUNDS = 12
#: Into how many parts a space is split at most.
PARTS = 16


def verified(model: nn.Module, inputs: Any, seed: int = 0) -> TracedModel:
    """Trace a network, prove its feature spaces, and hold what does not move.

    Where permuting a space changes the function it is split into features that can be exchanged, or held as a
    whole, and spaces are derived again. ``graph.pins`` says so, with the operation and the line where results
    first differ.

    Args:
        model: As for :func:`~mmreuse.graph.trace`.
        inputs: As for :func:`~mmreuse.graph.trace`.
        seed: Of the random parameters, inputs and permutations.

    Returns:
        TracedModel: Of which ``verify()`` passes.

    Raises:
        TraceError: The network does not run, or cannot be followed.
        SpaceError: Nothing in it can move; says what holds it.
    """
    graph = repaired(model, inputs, seed)
    if not graph.spaces:
        raise SpaceError(f'Nothing in {type(model).__name__} can move, so that there is nothing to merge, prune or '
                         f'take apart by its features. {graph.report()}')
    return graph


def repaired(model: nn.Module, inputs: Any, seed: int = 0) -> TracedModel:
    """Do what :func:`verified` does, for uses that need no space: a network in which nothing can move has none."""
    graph = trace(model, inputs)
    pins: list[Pin] = []
    for number in range(ROUNDS):
        proof = Proof(graph, seed) if graph.spaces else None
        holds = proof is None or proof.fails(proof.turns(list(graph.spaces))) is None
        wrong = [] if holds else proof.wrong()
        if not wrong:
            graph = graph if holds else _weakened(proof)
            return replace(graph, pins=(*graph.pins, *pins))
        held = list(graph.held)
        for names in wrong:
            pins.append(_culprit(proof, names))
            held += [item for name in names for item in _hold(proof, name, gentle=number < GENTLE)]
        graph = trace(model, inputs, held)
    raise SpaceError(f'The feature spaces of {type(model).__name__} cannot be proved: after {ROUNDS} rounds '
                     f"{', '.join(wrong[0])} still changes its function. {pins[-1]}")


def verified_each(models: Sequence[nn.Module], inputs: Any) -> list[TracedModel]:
    """Trace networks and prove the spaces of every architecture once; what is held in one is held in all like it.

    Raises:
        TraceError, SpaceError: As :func:`verified`.
    """
    proved: dict[Any, TracedModel] = {}
    graphs = []
    for model in models:
        architecture = type(model), tuple((key, tensor.shape) for key, tensor in model.state_dict().items())
        first = proved.get(architecture)
        if first is None:
            graphs.append(proved.setdefault(architecture, verified(model, inputs)))
        else:
            graph = trace(model, inputs, first.held)
            graphs.append(replace(_with_groups(graph, {name: space.group for name, space in first.spaces.items()}),
                                  pins=first.pins))
    return graphs


def _weakened(proof: Proof) -> TracedModel:
    """Give spaces whose groups the proof refutes the next smaller ones, until it holds."""
    graph, pins = proof.graph, []
    for _ in WEAKER:
        refuted = proof.overclaimed()
        if not refuted:
            break
        groups = {name: WEAKER[graph.spaces[name].group] for name in refuted}
        for name, group in groups.items():
            claim = DESCRIPTIONS[graph.spaces[name].group]
            reason = f"'{name}' {claim} changes the function; it is only {DESCRIPTIONS[group]}"
            pins.append(Pin('a random map', '', reason))
        graph = proof.graph = _with_groups(graph, groups)
    else:
        graph = _with_groups(graph, dict.fromkeys(graph.spaces, 'permutation'))
    return replace(graph, pins=(*graph.pins, *pins))


def _with_groups(graph: TracedModel, groups: Mapping[str, Group]) -> TracedModel:
    spaces = {name: replace(space, group=groups[name]) if name in groups else space
              for name, space in graph.spaces.items()}
    return replace(graph, spaces=spaces)


def _hold(proof: Proof, name: str, gentle: bool) -> list[Held]:
    """Return what to hold of a space whose permutation changes the function."""
    spaces = proof.graph.spaces
    space = spaces[name]
    if not gentle:
        cells = torch.arange(space.size)
    elif space.block_space is not None:  # members of blocks that can move
        return [Held(space.axes, space.blocks, together=True)]
    else:
        cells = _cells(proof, name)
    inside = [child for child in spaces.values() if child.block_space == name]
    # The blocks may stand nowhere but in their members.
    return [Held(space.axes, cells), *(Held(child.axes, child.blocks) for child in inside if not space.axes)]


def _cells(proof: Proof, name: str) -> Tensor:
    """Return the cells of a space within which features can be exchanged; (size,) number of the cell."""
    space = proof.graph.spaces[name]
    fewest = max(2, space.size // PARTS)

    def movable(members: Tensor) -> list[Tensor]:
        if len(members) < fewest:
            return []
        if proof.fails({name: _among(space.size, members)}) is None:
            return [members]
        half = len(members) // 2
        parts = movable(members[:half])
        for part in movable(members[half:]):
            joined = next((number for number, other in enumerate(parts)
                           if proof.fails({name: _among(space.size, torch.cat([other, part]))}) is None), None)
            if joined is None:
                parts.append(part)
            else:
                parts[joined] = torch.cat([parts[joined], part])
        return parts

    cells = torch.arange(space.size)
    blocks = torch.zeros(space.size, dtype=torch.long) if space.blocks is None else space.blocks
    for block in blocks.unique():
        for members in movable((blocks == block).nonzero().flatten()):
            cells[members] = members[0]
    return cells


def _among(size: int, members: Tensor) -> Permute:
    """Return a permutation that moves every one of some members, and nothing else."""
    index = torch.arange(size)
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(size))
    index[members[order]] = members[order.roll(1)]
    return Permute(index)


# -- where results first differ ------------------------------------------------------------


def _culprit(proof: Proof, names: list[str]) -> Pin:
    """Return the first operation whose results are others, not only in another order, once spaces are permuted."""
    maps = proof.moves(names)
    case = proof.fails(maps)
    reason = f"permuting {', '.join(repr(name) for name in names)} changes its result" + (
        f' on {case.name}' if case is not proof.cases[0] else '')
    known = _listen(proof.twin, case, [])
    found = _listen(proof.mapped(maps), case, known.sums)
    return replace(found.pin or Pin('the output', '', ''), reason=reason)


def _listen(model: nn.Module, case: Case, known: list[Tensor]) -> '_Listener':
    with running_modules(model) as stack:
        listener = _Listener(known, stack)
        # As in the proof, it may fail; what was heard up to there counts.
        with suppress(Exception), listener:
            run_in_double(model, case.inputs, case.flip)
    return listener


class _Listener(TorchFunctionMode):
    """Notes of every operation what does not depend on the order of its results, up to the first that differs."""

    def __init__(self, known: list[Tensor], stack: list[str]) -> None:
        super().__init__()
        self.known = known  # of another run
        self.stack = stack  # modules that run
        self.sums: list[Tensor] = []
        self.pin: Pin | None = None

    def __torch_function__(self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = function(*args, **(kwargs or {}))
        floating = [tensor.detach().double().flatten() for tensor in tensors_within(result)
                    if tensor.is_floating_point()]
        if floating and self.pin is None:
            values = torch.cat(floating)
            sums = torch.stack([torch.tensor(float(len(values)), dtype=torch.float64), values.sum(),
                                values.abs().sum(), values.square().sum(), values.pow(3).sum()])
            if self.known and len(self.sums) < len(self.known):
                other = self.known[len(self.sums)]
                sizes = torch.stack([sums[0], sums[2], sums[2], sums[3], values.abs().pow(3).sum()])
                if bool(((sums - other).abs() > 1e-8 * sizes + 1e-30).any()):
                    self.pin = Pin(plain_name(function), self.stack[-1] if self.stack else '', '', calling_line())
            self.sums.append(sums)
        return result
