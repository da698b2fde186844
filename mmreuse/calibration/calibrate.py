"""Refit a changed network, layer by layer and in order, to the networks that it was made of."""
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmreuse.calibration.layers import Fitted, channel_axis, fitted
from mmreuse.calibration.moments import Regression, mean_of, sum_of
from mmreuse.calibration.stepwise import Stepwise, live_bytes
from mmreuse.errors import ConfigError, DataError
from mmreuse.graph import AxisPlan, SpaceMap, TracedModel, plan_axis, resolve_maps
from mmreuse.registry import RENORMALIZERS
from mmreuse.statistics.passes import image_batches
from mmreuse.utils.cost.memory import require_memory
from mmreuse.utils.modes import evaluating
from mmreuse.utils.names import fitting

#: Fewer say too little, however many positions they have.
LEAST_IMAGES = 16
#: Tried where none is given; the spec of FeatCal (2026) has 0.05.
RIDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.)
#: The last of so many parts of the images chooses the ridge.
_FOLDS = 5


@dataclass(frozen=True)
class Source:
    """A network that another one was made of, and how the outputs of its layers became those of the other.

    Attributes:
        model: With the other network's module names.
        plans: How the channels that a layer gives are mapped, by layer; what has none has the other's features.
    """
    model: nn.Module
    plans: Mapping[str, AxisPlan] = field(default_factory=dict)

    @classmethod
    def mapped(cls, graph: TracedModel, maps: Mapping[str, SpaceMap]) -> 'Source':
        """Return the source of ``transform(graph, maps)``."""
        axes = defaultdict(list)
        for item in resolve_maps(graph.spaces, dict(maps)).values():
            for axis in item.space.axes:
                layer, _, name = axis.tensor.rpartition('.')
                if axis.dim == 0 and name == 'weight':
                    axes[layer].append((axis, item))
        return cls(graph.model, {layer: plan_axis(found) for layer, found in axes.items()})


@dataclass(frozen=True)
class LayerFit:
    """What calibration did to one layer."""
    ridge: float
    before: float  # share of the target's variance that the layer missed, on held-out images if there are any
    after: float


@dataclass
class CalibrationReport:
    """What calibration did; prints as a table."""
    fits: dict[str, LayerFit] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)  # layers that stayed as they were, and why

    def __str__(self) -> str:
        lines = [f'{"layer":40} {"ridge":>6} {"missed before":>14} {"after":>8}']
        lines += [f'{name:40} {fit.ridge:6g} {fit.before:14.3f} {fit.after:8.3f}' for name, fit in self.fits.items()]
        return '\n'.join(lines + [f'{name:40} left: {reason}' for name, reason in self.left.items()])


@torch.no_grad()
def calibrate(network: nn.Module, sources: Sequence[Source], images: Iterable, *, ridge: float | None = None,
              samples: int | None = None, positions: int | None = 64, layers: Sequence[str] | None = None,
              seed: int = 0) -> CalibrationReport:
    """Refit a network in place to the outputs of its sources' layers; no labels and no gradients are used.

    After a lossy step (channels removed, networks merged) layers get inputs that they were never fitted to. In the
    order in which they run, every convolution, linear layer and norm is solved for anew, by one ridge regression:
    from what the network itself, repaired so far, now feeds to it, to what the sources' own layers give on the same
    images, mapped as their features were. Each layer so makes up for what those before it lost (RegMean++, 2025;
    FeatCal, 2026; for channels that were removed, OSSCAR, 2024).

    ``W = (sum_k w_k T_k X^T + lam W_0) (sum_k w_k X X^T + lam I)^-1``, centred, ``lam = ridge * mean diag(X X^T)``,
    where ``W_0`` is the network's own weight.

    Args:
        network: Changed in place; module names are those of the sources.
        sources: What it was made of.
        images: See :func:`mmreuse.statistics.data.batches`; labels are not used. A few hundred are enough.
        ridge: None to choose it for each layer on held-out images.
        samples: How many images to use; None for all.
        positions: How many positions of each image a convolution is fitted on; None for all.
        layers: Regular expressions of the names of those that are refitted; None for all.
        seed: Of the positions.

    Returns:
        CalibrationReport: What was fitted, and which layers were left as they are, and why.

    Raises:
        ConfigError: A number is out of its range, no layer has such a name, or memory is short.
        DataError: There are too few images, or something is not finite.
        TraceError: A network cannot be recorded.
    """
    if ridge is not None and not ridge >= 0 or positions is not None and positions < 1 or not sources:
        raise ConfigError(f'calibrate: ridge={ridge} must be at least 0, positions={positions} at least 1, and there '
                          f'must be a source ({len(sources)} given).')
    batches = [each for each, in image_batches(images, [network], samples, 'calibration images')]
    count = sum(map(len, batches))
    if count < LEAST_IMAGES:
        raise DataError(f'calibrate: {count} images are too few to fit layers to. Give at least {LEAST_IMAGES}; some '
                        'hundred are better.')
    models = [network, *(source.model for source in sources)]
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(evaluating(model))
        runs = [Stepwise(model, batches) for model in models]
        require_memory(count * sum(live_bytes(run.program) for run in runs), 'calibration',
                       'Use fewer samples.')
        return _Walk(runs, sources, ridge, positions, seed).fit(layers)


class _Walk:
    """Networks that run side by side, and the regressions on the way."""

    def __init__(self, runs: Sequence[Stepwise], sources: Sequence[Source], ridge: float | None,
                 positions: int | None, seed: int) -> None:
        self.own, *others = runs
        self.followers = [_Follower(run, source) for run, source in zip(others, sources, strict=True)]
        self.ridge, self.positions, self.seed = ridge, positions, seed
        self.calls = Counter(node.target for node in self.own.graph.nodes if node.op == 'call_module')
        self.report = CalibrationReport()

    def fit(self, layers: Sequence[str] | None) -> CalibrationReport:
        """Go through all layers."""
        chosen = set(self.calls) if layers is None else fitting(layers, self.calls, 'layer that the network calls')
        for node in self.own.layers():
            layer = self.own.network.get_submodule(node.target)
            if node.target not in chosen or not any(True for _ in layer.parameters()):
                continue
            problem = self._problem(node, layer)
            if isinstance(problem, str):
                self.report.left[node.target] = problem
            elif problem is not None:
                self._fit_layer(node, problem)
        return self.report

    def _problem(self, node: fx.Node, layer: nn.Module) -> Fitted | str | None:
        """The regression of a layer, why there is none, or None for norms that follow from the layer in front."""
        if self.calls[node.target] > 1:
            return 'it runs several times'
        if isinstance(layer, _BatchNorm):
            return None
        for follower in self.followers:
            if not follower.reach(node.target):
                return 'a source does not run it at this place'
        return fitted(layer, self.positions, self._norm_behind(node))

    def _norm_behind(self, node: fx.Node) -> _BatchNorm | None:
        """The batch norm that alone reads a layer."""
        users = list(node.users)
        if len(users) != 1 or users[0].op != 'call_module':
            return None
        norm = self.own.network.get_submodule(users[0].target)
        return norm if isinstance(norm, _BatchNorm) and norm.running_mean is not None else None

    def _fit_layer(self, node: fx.Node, problem: Fitted) -> None:
        parts = self._measure(node, problem)
        everything = sum_of(parts)
        if not everything.finite:
            raise DataError(f"calibrate: inputs or targets of '{node.target}' are not finite. Check the networks and "
                            'the images.')
        anchor, bias = problem.anchor().double().cpu(), problem.own_bias().double().cpu()
        seen, held = (sum_of(parts[:-1]), parts[-1]) if len(parts) > 1 else (everything, everything)
        ridge = self.ridge
        if ridge is None:
            ridge = min(RIDGES, key=lambda each: held.error(*seen.solve(anchor, each)))
        spread = float((held.tt - held.t.square().sum(1) / held.count).sum()) or 1.
        self.report.fits[node.target] = LayerFit(
            ridge, held.error(anchor, bias) / spread, held.error(*seen.solve(anchor, ridge)) / spread)
        problem.store(*everything.solve(anchor, ridge))

    def _measure(self, node: fx.Node, problem: Fitted) -> list[Regression]:
        """Sums over a fifth of the images at a time, for all sources together."""
        folds = min(_FOLDS, len(self.own.values))
        found = [[Regression.zeros(problem.groups, problem.inputs, problem.outputs) for _ in range(folds)]
                 for _ in self.followers]
        for own, follower in zip(found, self.followers, strict=True):
            generator = torch.Generator().manual_seed(self.seed)
            for number, (x, t) in enumerate(zip(self.own.inputs(node), follower.targets(), strict=True)):
                own[number % folds].add(*problem.rows(x, t, generator))
            for each in own:
                each.reduce()
        if len(found) == 1:
            return found[0]
        weights = [sum_of(own).weight for own in found]
        total = sum(weights) or 1.
        return [mean_of([own[fold] for own in found], [weight / total for weight in weights])
                for fold in range(folds)]


class _Follower:
    """A source that runs up to the layer that is fitted."""

    def __init__(self, run: Stepwise, source: Source) -> None:
        self.run, self.plans = run, source.plans
        self.ahead = [node.target for node in run.graph.nodes if node.op == 'call_module']
        self.stops = run.layers()
        self.node: fx.Node | None = None

    def reach(self, target: str) -> bool:
        """Run up to a layer; False where it does not lie ahead."""
        if self.node is not None and self.node.target == target:
            return True
        if target not in self.ahead:
            return False
        while self.node is None or self.node.target != target:
            self.node = next(self.stops)
            self.ahead.pop(0)
        return True

    def targets(self) -> Iterator[Tensor]:
        """Yield what the layer gives, in the features of the changed network, per batch."""
        layer, plan = self.run.network.get_submodule(self.node.target), self.plans.get(self.node.target)
        outputs = self.run.outputs(self.node)
        return outputs if plan is None else (plan.apply(each, channel_axis(layer)) for each in outputs)


@RENORMALIZERS.register_module(name='calibrate', needs=('samples', 'ends', 'sources', 'layers'))
def calibrate_ends(network: nn.Module, loader: Iterable, *, ends: Sequence[nn.Module] | None = None,
                   sources: Sequence[Source] | None = None, ridge: float | None = None, samples: int | None = None,
                   positions: int | None = 64, layers: str | Sequence[str] | None = None,
                   seed: int = 0) -> CalibrationReport:
    """Run :func:`calibrate` as a renormalizer.

    Args:
        network: The merged or pruned network.
        loader: Images.
        ends: The networks that it was made of, in its own features and with its module names.
        sources: Or such networks in features of their own.
        ridge, samples, positions, layers, seed: As for :func:`calibrate`.

    Raises:
        ConfigError: What the network was made of is not known here.
    """
    sources = sources or [Source(end) for end in ends or ()]
    if not sources:
        raise ConfigError("renormalizer 'calibrate' needs the networks that this one was made of, which only the job "
                          'that makes it knows: name it there.')
    layers = [layers] if isinstance(layers, str) else layers
    return calibrate(network, sources, loader, ridge=ridge, samples=samples, positions=positions, layers=layers,
                     seed=seed)
