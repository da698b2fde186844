"""What distillation minimises, and by which agreement it is judged."""
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mmreuse.calibration import Source
from mmreuse.errors import ConfigError
from mmreuse.evaluation.tasks import Tasks, joint_prediction
from mmreuse.models.classifiers.sources import Scatter
from mmreuse.modularization.structured.problem import asked_alike
from mmreuse.networks.kept_outputs import kept_outputs
from mmreuse.registry import TEACHERS, Method
from mmreuse.statistics.data import logits_of
from mmreuse.utils.configs.methods import MethodLike, find_method
from mmreuse.utils.modes import evaluating
from mmreuse.utils.names import fitting


@dataclass(frozen=True)
class Scoring:
    """How images become scores of all classes, (B, K, C).

    Attributes:
        own: By the changed network.
        sources: By all that it was made of.
        tasks: Class ids of each task; None where all sources have the same classes.
        rule: How scores of different tasks are compared, see :func:`mmreuse.evaluation.tasks.joint_prediction`.
    """
    own: Callable[[Tensor], Tensor]
    sources: Callable[[Tensor], Tensor]
    tasks: Tasks | None = None
    rule: str = 'mean'

    def tasks_of(self, scores: Tensor) -> Tasks:
        """Return the tasks, one of all classes where there are no others."""
        return [list(range(scores.shape[-1]))] if self.tasks is None else self.tasks

    @torch.no_grad()
    def agreement(self, images: Tensor, own: Tensor) -> Tensor:
        """Return for which images scores (B, K, C) of the network predict what the sources' do, bool (B,)."""
        predicted = (joint_prediction(scores, self.tasks_of(scores), self.rule)
                     for scores in (own, self.sources(images)))
        return torch.eq(*predicted)


def same_classes(network: nn.Module, sources: Sequence[nn.Module]) -> Scoring:
    """Return the scoring of networks whose outputs all score the same classes; sources stand for the mean of theirs."""
    return Scoring(lambda images: logits_of(network(images))[:, None],
                   lambda images: torch.stack([logits_of(source.to(images.device)(images)) for source in sources], 1))


def plain_scoring(network: nn.Module, sources: Sequence[nn.Module], image: Tensor) -> Scoring:
    """Return the scoring of plain networks.

    Sources have the same classes if the network has as many outputs as each; otherwise each has its own, and the
    network scores them in their order, in one output or in one for each source. Of a structured module they are asked
    about the labels of its problem.

    Args:
        network: The changed network.
        sources: What it was made of.
        image: One image, (1, ...).

    Raises:
        ConfigError: The outputs do not fit each other.
    """
    sources = [asked_alike(source, network, image) for source in sources]
    with torch.no_grad(), evaluating(network):
        output, given = network(image), [logits_of(source.eval()(image)) for source in sources]
    if shapes := [tuple(each.shape) for each in given if each.dim() != 2]:
        raise ConfigError(f'a source gives {shapes[0]} for one image, which are no scores of classes (1, classes). '
                          'Networks of other kinds cannot be compared by what they predict.')
    sizes = [each.shape[-1] for each in given]
    several = isinstance(output, tuple | list) and len(output) == len(sources) > 1
    widths = [each.shape[-1] for each in output] if several else [logits_of(output).shape[-1]]
    if not several and widths * len(sizes) == sizes:
        return same_classes(network, sources)
    total = sum(sizes)
    if widths not in ([total], sizes):
        raise ConfigError(f'the network has outputs of {widths} classes, its sources of {sizes}. Give sources '
                          'of the same classes, or of which the network scores all, one after the other.')
    tasks = [list(part) for part in torch.arange(total).split(sizes)]
    scatters = [Scatter(tuple(map(int, task)), total) for task in tasks]

    def own(images: Tensor) -> Tensor:
        outputs = network(images)
        return torch.stack([scatter(each) for scatter, each in zip(scatters, outputs, strict=True)], 1) if several \
            else logits_of(outputs)[:, None]

    return Scoring(own, lambda images: torch.stack([scatter(logits_of(source(images))) for scatter, source in zip(
        scatters, sources, strict=True)], 1), [[int(each) for each in task] for task in tasks],
        'text')


def followed(network: nn.Module, sources: Sequence[nn.Module]) -> list[Source]:
    """Return sources with the channels that a network has of each; none where its record does not lead to one."""
    found = []
    for source in sources:
        kept = kept_outputs(network, source)
        if kept is None:
            return []
        found.append(Source.picking(source, kept))
    return found


@dataclass(frozen=True)
class Objective:
    """A sum of losses, by names of :data:`mmreuse.registry.TEACHERS`.

    Attributes:
        scoring: Of the network and its sources.
        teachers: Names or configs; None for ``'joint'``, and for ``'surest'`` where there are several tasks.
        network: Whose layers are compared, where a teacher needs features.
        sources: With the maps of their features; likewise.
    """
    scoring: Scoring
    teachers: Sequence[MethodLike] | None = None
    network: nn.Module | None = None
    sources: Sequence[Source] = field(default=())

    def __post_init__(self) -> None:
        for method in self.methods:
            if 'features' in method.needs and not self.sources:
                raise ConfigError(f"teacher '{method.name}' compares features, and it is not known how those of the "
                                  'sources are mapped to those of the network. Leave it out.')

    @property
    def methods(self) -> list[Method]:
        """The teachers."""
        several = self.scoring.tasks is not None and len(self.scoring.tasks) > 1
        teachers = ['surest' if several else 'joint'] if self.teachers is None else self.teachers
        return [find_method(TEACHERS, teacher) for teacher in teachers]

    def losses(self, images: Tensor, goal: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``loss_<teacher>`` on images, prepared; labels play no part.

        Args:
            images: (B, ...).
            goal: What the sources say of them, (B, N, C), where that is known.
        """
        methods = self.methods
        layers = [method.options.get('layers') for method in methods if 'features' in method.needs]
        features: dict[str, tuple[Tensor, list[Tensor]]] = {}
        with self._compared(images, layers[0], features) if layers else ExitStack():
            own = self.scoring.own(images)
        own = own.to(torch.promote_types(own.dtype, torch.float32))  # losses of probabilities want more than bfloat16
        if goal is None:
            with torch.no_grad():
                goal = self.scoring.sources(images)
        given = dict(tasks=self.scoring.tasks_of(own), rule=self.scoring.rule, features=features)
        return {f'loss_{method.name}': method(own, goal, **method.accepted(given)) for method in methods}

    @contextmanager
    def _compared(self, images: Tensor, layers: Sequence[str] | None,
                  features: dict[str, tuple[Tensor, list[Tensor]]]) -> Iterator[None]:
        """Record what layers of the network give in the block; behind it, also what those of the sources give."""
        weighted = [name for name, module in self.network.named_modules() if isinstance(
            module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)]
        names = self._followed(weighted) if layers is None else sorted(fitting(layers, weighted, 'layer'))
        if unknown := set(names) - set(self._followed(names)):
            raise ConfigError(f"teacher 'features': '{min(unknown)}' has other channels than a source has there, and "
                              'it is not known which are which. Leave it out of layers.')
        own: dict[str, Tensor] = {}
        with _recorded(self.network, names, own):
            yield
        goals: list[dict[str, Tensor]] = []
        for source in self.sources:
            goals.append({})
            with torch.no_grad(), evaluating(source.model), _recorded(source.model, names, goals[-1]):
                source.model(images)
        for name in own:
            mapped = [_mapped(source, name, found[name]) for source, found in zip(self.sources, goals, strict=True)
                      if name in found]
            if mapped:
                features[name] = own[name], mapped

    def _followed(self, names: Sequence[str]) -> list[str]:
        """Return the layers whose channels are known in all sources that have them."""
        have = [(source, dict(source.model.named_modules())) for source in self.sources]
        return [name for name in names
                if all(name not in known or source.follows(name, self.network) for source, known in have)]


@contextmanager
def _recorded(network: nn.Module, names: Sequence[str], found: dict[str, Tensor]) -> Iterator[None]:
    """Keep what modules give in the block."""
    known = dict(network.named_modules())
    handles = [known[name].register_forward_hook(
        lambda _module, _args, output, name=name: found.__setitem__(name, output)) for name in names if name in known]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mapped(source: Source, name: str, output: Tensor) -> Tensor:
    plan: Mapping = source.plans
    axis = -1 if isinstance(source.model.get_submodule(name), nn.Linear) else 1
    return plan[name].apply(output, axis) if name in plan else output
