"""Networks that run side by side, and the regressions on the way."""
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from mmengine.dist import broadcast, get_rank, is_main_process
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmreuse.calibration.images import CalibrationImages
from mmreuse.calibration.kinds import fitted
from mmreuse.calibration.layers import Draw, Fitted, picked
from mmreuse.calibration.moments import Regression
from mmreuse.calibration.report import CalibrationReport, LayerFit
from mmreuse.calibration.residual import stream_beside
from mmreuse.calibration.source import Source
from mmreuse.calibration.stepwise import State, Stepwise
from mmreuse.errors import DataError
from mmreuse.utils.files.io import load_tensors, save_tensors
from mmreuse.utils.names import fitting
from mmreuse.utils.progress import progress

#: Tried where none is given; FeatCal (2026) has 0.05.
RIDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.)


@dataclass
class Problem:
    """One regression on the way."""
    name: str
    layer: str  # the module's name
    norm: str | None  # of the batch norm behind it
    fitted: Fitted
    node: int  # number of the operation in the network
    nodes: list[int]  # and in each source
    streams: list[fx.Node] = field(default_factory=list)  # that it is added to and has to correct, in all of them


class Walk:
    """A changed network beside its sources.

    Args:
        network: Changed in place.
        sources: What it was made of.
        images: What they run on.
        ridge: None to choose it for each layer.
        positions: As for :func:`~mmreuse.calibration.calibrate`.
        layers: Regular expressions of the names of those that are refitted; None for all.
        residual: As for :func:`~mmreuse.calibration.calibrate`.
    """

    def __init__(self, network: nn.Module, sources: Sequence[Source], images: CalibrationImages,
                 ridge: float | None, positions: int | None, layers: Sequence[str] | None,
                 residual: bool = False) -> None:
        self.images, self.ridge, self.positions, self.residual = images, ridge, positions, residual
        self.sources = sources
        self.own, *self.others = (Stepwise(model, images.batches)
                                  for model in (network, *(source.model for source in sources)))
        self.rooms = [float('inf')] * len(self.runs)
        self.report = CalibrationReport()
        self.problems = self._problems(layers)

    @property
    def runs(self) -> list[Stepwise]:
        """Return the network, and its sources."""
        return [self.own, *self.others]

    def fit(self, problems: Sequence[Problem]) -> None:
        """Solve regressions one after the other."""
        for problem in progress(problems, 'calibration', show=get_rank() == 0):
            self._fit(problem)

    def save(self, problems: Sequence[Problem], folder: Path) -> None:
        """Write what became of some layers."""
        if not is_main_process():
            return
        names = {name for problem in problems for name in (problem.layer, problem.norm) if name is not None}
        save_tensors(folder / 'layers.safetensors', {
            f'{name}.{key}': tensor for name in sorted(names)
            for key, tensor in self.own.network.get_submodule(name).state_dict().items()},
            dict(fits={problem.name: vars(self.report.fits[problem.name]) for problem in problems}))

    @torch.no_grad()
    def load(self, problems: Sequence[Problem], folder: Path) -> None:
        """Make layers what was written."""
        tensors, facts = load_tensors(folder / 'layers.safetensors')
        for key, tensor in tensors.items():
            path, _, name = key.rpartition('.')
            module = self.own.network.get_submodule(path)
            if module._parameters.get(name) is None and name not in module._buffers:  # a bias that it did not have
                like = module.weight
                module._parameters[name] = nn.Parameter(tensor.to(like), requires_grad=like.requires_grad)
            else:
                getattr(module, name).copy_(tensor)
        self.report.fits |= {problem.name: LayerFit(**facts['fits'][problem.name]) for problem in problems}

    # ---- which layers ------------------------------------------------------------------------------------------
    def _problems(self, layers: Sequence[str] | None) -> list[Problem]:
        calls = _calls(self.own)
        uses = Counter(name for _, name in calls)
        chosen = set(uses) if layers is None else fitting(layers, uses, 'layer that the network calls')
        owners = Counter(id(each) for _, each in self.own.network.named_parameters(remove_duplicate=False))
        ahead = [dict(_first_calls(run)) for run in self.others]
        found, reached = [], [-1] * len(self.others)
        for number, name in calls:
            layer = self.own.network.get_submodule(name)
            if name not in chosen or isinstance(layer, _BatchNorm) or not any(True for _ in layer.parameters()):
                continue
            nodes = [each.get(name, -1) for each in ahead]
            reason = self._refusal(number, name, uses, owners)
            if reason is None and any(node <= last for node, last in zip(nodes, reached, strict=True)):
                reason = 'a source does not run it at this place'
            if reason is None and not all(source.follows(name, self.own.network) for source in self.sources):
                reason = 'a source has other channels there, and it is not known which are which'
            norm = self._norm_behind(number, uses)
            problems = reason or fitted(name, layer, None if norm is None else
                                        self.own.network.get_submodule(norm), self.own.nodes[number])
            if isinstance(problems, str):
                self.report.left[name] = problems
                continue
            reached = nodes
            streams = self._streams(number, nodes) if list(problems) == [name] else []
            found += [Problem(each, name, norm, problem, number, nodes, streams) for each, problem in problems.items()]
        return found

    def _streams(self, number: int, nodes: Sequence[int]) -> list[fx.Node]:
        """Return what an operation is added to, in the network and in all sources; nothing where one does not add."""
        if not self.residual:
            return []
        found = [stream_beside(run, each) for run, each in zip(self.runs, (number, *nodes), strict=True)]
        return [] if None in found else found

    def _refusal(self, number: int, name: str, uses: Counter, owners: Counter) -> str | None:
        layer = self.own.network.get_submodule(name)
        if uses[name] > 1:
            return 'it runs several times'
        if any(owners[id(each)] > 1 for each in layer.parameters()):
            return 'another layer has its weights, too'
        if self.own.nodes[number] not in self.own.dynamic:
            return 'it does not see the images'
        return None

    def _norm_behind(self, number: int, uses: Counter) -> str | None:
        """Return the batch norm that alone reads what an operation gives."""
        users = list(self.own.nodes[number].users)
        if len(users) != 1 or users[0].op != 'call_module' or uses[users[0].target] > 1:
            return None
        norm = self.own.network.get_submodule(users[0].target)
        return users[0].target if isinstance(norm, _BatchNorm) and norm.running_mean is not None else None

    # ---- how they are fitted -----------------------------------------------------------------------------------
    def _fit(self, problem: Problem) -> None:
        seen, held = self._measure(problem)
        ridge, judged = self.ridge, None
        if ridge is None:
            ridge, solution = self._best_ridge(seen, held)
            judged = self._described(ridge, held, *solution)
            if held is not seen:
                seen += held
        solution = seen.solve(ridge)
        self.report.fits[problem.name] = judged or self._described(ridge, seen, *solution)
        for tensor in solution:
            broadcast(tensor)
        problem.fitted.store(*solution)

    @staticmethod
    def _described(ridge: float, rows: Regression, weight: Tensor, bias: Tensor) -> LayerFit:
        spread = rows.spread or 1.
        return LayerFit(ridge, float(rows.rr) / spread, rows.error(weight, bias) / spread)

    def _best_ridge(self, seen: Regression, held: Regression) -> tuple[float, tuple[Tensor, Tensor]]:
        """Go up or down from what was best for the layer before, as long as held-out images are missed by less."""
        solutions, errors = {}, {}

        def error(number: int) -> float:
            if not 0 <= number < len(RIDGES):
                return float('inf')
            if number not in errors:
                solutions[number] = seen.solve(RIDGES[number])
                errors[number] = held.error(*solutions[number])
            return errors[number]

        last = next(reversed(self.report.fits.values()), None)
        best = RIDGES.index(last.ridge if last else 0.01)
        while (better := min((best, best - 1, best + 1), key=error)) != best:
            best = better
        return RIDGES[best], solutions[best]

    def _measure(self, problem: Problem) -> tuple[Regression, Regression]:
        """Return sums over the images that a layer is fitted to, and over those that its ridge is chosen on."""
        layer, device = problem.fitted, self.images.batches[0].device
        own = layer.anchor().to(device, torch.float64), layer.own_bias().to(device, torch.float64)
        seen = Regression.of(*own)
        held = Regression.of(*own) if self.ridge is None else seen
        for batch, x, t in self._rows(problem):
            if held is seen:
                seen.add(x.flatten(0, 1), t.flatten(0, 1))
                continue
            apart = self.images.held(batch, len(x)).to(device)
            for each, rows in ((seen, ~apart), (held, apart)):
                each.add(x[rows].flatten(0, 1), t[rows].flatten(0, 1))
        for each in dict.fromkeys((seen, held)):
            each.reduce()
            if not each.finite:
                raise DataError(f"calibrate: inputs or targets of '{problem.name}' are not finite. Check the networks "
                                'and the images.')
        return seen, held if held.count else seen

    def _rows(self, problem: Problem) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the number of each batch, inputs (R, n, G, i) of a layer and its targets (R, n, G, o)."""
        layer = problem.fitted
        for run, number, room in zip(self.runs, (problem.node, *problem.nodes), self.rooms, strict=True):
            run.advance(number, room)
        states = [self.own.states(problem.node),
                  *(run.states(node) for run, node in zip(self.others, problem.nodes, strict=True))]
        for batch, (own, *others) in enumerate(zip(*states, strict=True)):
            draw = partial(lambda batch, rows, total: self.images.draw(batch, rows, total, self.positions), batch)
            given = [self._given(problem, *each) for each in zip(self.others, problem.nodes, others, strict=True)]
            x = layer.read(*self.own.arguments(self.own.nodes[problem.node], own))
            x = layer.rows(x, given[0], draw)
            lost = self._lost(problem, [own, *others], draw)
            t = self._joined(batch, [
                self._target(problem, source, run, picked(each, layer.channels, draw), missing)
                for source, run, each, missing in zip(self.sources, self.others, given, lost, strict=True)])
            yield batch, x, t.reshape(*t.shape[:2], layer.groups, layer.outputs)

    def _joined(self, batch: int, targets: Sequence[Tensor]) -> Tensor:
        """Return the mean over sources, or what the owner of each image gives."""
        owners = self.images.owners(batch, len(targets[0]))
        if owners is None:
            return sum(targets) / len(targets)
        device = targets[0].device
        return torch.stack(list(targets))[owners.to(device), torch.arange(len(targets[0]), device=device)]

    def _given(self, problem: Problem, run: Stepwise, number: int, state: State) -> Tensor:
        """Return what a source's layer gives for a batch."""
        node = run.nodes[number]
        return problem.fitted.given(run.network.get_submodule(problem.layer), *run.arguments(node, state),
                                    partial(run.output, node, state))

    def _lost(self, problem: Problem, states: Sequence[State], draw: Draw) -> list[Tensor | float]:
        """Return what the stream that a layer is added to lacks of each source's, (R, n, C)."""
        if not problem.streams:
            return [0.] * len(self.sources)
        own, *others = (picked(run.output(node, state), problem.fitted.channels, draw)
                        for run, node, state in zip(self.runs, problem.streams, states, strict=True))
        return [_mapped(source, problem, other) - own for source, other in zip(self.sources, others, strict=True)]

    def _target(self, problem: Problem, source: Source, run: Stepwise, given: Tensor, lost: Tensor | float) -> Tensor:
        """Return what the layer should give according to a source that gives (R, n, C), mapped, and what was lost.

        Networks that were merged normalise by statistics of their own. Where a batch norm follows, what counts is what
        comes out of it; channels that it as good as removes have the layer's own output as their target.
        """
        if problem.norm is None:
            return _mapped(source, problem, given) + lost
        gain, shift = _affine_of(run.network.get_submodule(problem.norm))
        own_gain, own_shift = _affine_of(problem.fitted.norm)
        lives = own_gain.abs() > 1e-4 * own_gain.abs().max()
        behind = (_mapped(source, problem, gain * given + shift) + lost - own_shift) / torch.where(lives, own_gain, 1)
        return torch.where(lives, behind, _mapped(source, problem, given))


def _mapped(source: Source, problem: Problem, x: Tensor) -> Tensor:
    """Return what a source's layer gives, (R, n, C), in the channels of the changed network."""
    plan = source.plans.get(problem.name)
    return x if plan is None else plan.apply(x, 2)


def _affine_of(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return gain and shift of a batch norm by channel, in front of an activation that some libraries' norms hold."""
    gain = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
    return gain, (0 if norm.bias is None else norm.bias) - norm.running_mean * gain


def _calls(run: Stepwise) -> list[tuple[int, str]]:
    """Return the number and name of each layer's call, calls of the function of a linear layer included."""
    found = []
    for number, node in enumerate(run.nodes):
        if node.op == 'call_module':
            found.append((number, node.target))
        elif node.op == 'call_function' and node.target is nn.functional.linear:
            path = _owner_of(node, run)
            if path is not None:
                found.append((number, path))
    return found


def _owner_of(node: fx.Node, run: Stepwise) -> str | None:
    """Name of the layer whose weight, and whose bias or none, the function of a linear layer is called with."""
    weight, bias = (node.args[place] if len(node.args) > place else node.kwargs.get(key)
                    for place, key in ((1, 'weight'), (2, 'bias')))
    path, _, name = str(getattr(weight, 'target', '')).rpartition('.')
    if name != 'weight' or weight.op != 'get_attr' or weight.target in run.constants:
        return None
    own = run.network.get_submodule(path)._parameters.get('bias') is not None
    return path if getattr(bias, 'target', None) == (f'{path}.bias' if own else None) else None


def _first_calls(run: Stepwise) -> Iterator[tuple[str, int]]:
    """Return the first call of each layer, by name."""
    return ((name, number) for number, name in reversed(_calls(run)))
