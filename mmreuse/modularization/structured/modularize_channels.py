"""Structured modules of a trained classifier: all problems from one pass over the data, each solved in closed form."""
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.calibration import Source, calibrate
from mmreuse.errors import ConfigError, DataError
from mmreuse.graph import Select, TracedModel, copy_model, transform, verified
from mmreuse.modularization.report import ModuleReport, report_of
from mmreuse.modularization.structured.blocks import least_changing, removable_blocks, without_blocks
from mmreuse.modularization.structured.closed_head import (
    FinalLayer,
    balanced,
    final_layer,
    head_on,
    set_head,
    solve_head,
)
from mmreuse.modularization.structured.moments import Profile, profile
from mmreuse.modularization.structured.problem import Problem, ProblemClasses, atoms_of, problems_of
from mmreuse.modularization.structured.saliency import per_mac, problem_scores
from mmreuse.modularization.structured.samples import Samples, predict
from mmreuse.networks import Edit, open_network, record_change, record_of
from mmreuse.networks.record import set_record
from mmreuse.networks.references import Reference
from mmreuse.pruning.channels.choice import channel_scores, choose_channels, prunable_spaces, resizable
from mmreuse.pruning.channels.elimination import readers
from mmreuse.pruning.channels.tabled_cost import TABLED_COSTS, TabledCost, candidate_widths, choose_within
from mmreuse.pruning.channels.widths import cost_of
from mmreuse.pruning.scoring import score_weights
from mmreuse.pruning.weights import listed_weights
from mmreuse.registry import EDITS, SALIENCIES
from mmreuse.statistics import Data, inputs_for
from mmreuse.utils.configs.methods import MethodLike, find_method, method_name
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.names import refuse_other
from mmreuse.utils.processes.forked import forked


@EDITS.register_module(name='modularize_channels')
class ModularizeChannelsEdit(Edit):
    """Blocks, channels and heads removed that a problem does not need, and another last layer."""

    def phrase(self, settings: Mapping[str, Any]) -> str:
        """Say for which labels, and how much is left."""
        return f"a module for {' and '.join(settings['labels'])} with {settings['share']:.0%} of the MACs"


@dataclass(frozen=True)
class Recipe:
    """How a module is made, see :func:`modularize_channels`."""
    target: float = 0.3
    cost: str | TabledCost = 'macs'
    blocks: int = 0
    saliency: MethodLike | None = None
    multiple: int = 1
    minimum: float = 0.1
    samples: int = 256
    ridge: float | None = 0.01
    positions: int | None = 64
    seed: int = 0

    def check(self) -> None:
        """Raise :class:`ConfigError` for a number out of its range, or a saliency that does not fit."""
        if not 0 < self.target <= 1 or not 0 < self.minimum <= 1 or self.multiple < 1 or self.blocks < 0:
            raise ConfigError(f'target={self.target} and minimum={self.minimum} are shares in (0, 1], '
                              f'multiple={self.multiple} is at least 1, blocks={self.blocks} at least 0.')
        if isinstance(self.cost, str):
            refuse_other('cost', self.cost, TABLED_COSTS)
        if self.saliency is not None and find_method(SALIENCIES, self.saliency).needs:
            raise ConfigError(f"saliency '{method_name(self.saliency)}' needs data of its own. Take None, the moments "
                              'of the problem, or one that goes by weights.')


@dataclass(frozen=True)
class Choice:
    """What a module keeps of its base: all but some blocks, and these members of the spaces that shrink."""
    blocks: tuple[str, ...]
    kept: dict[str, list[int]]


def modularize_channels(model: Reference, data: Data, problems: Mapping[str, ProblemClasses], *, target: float = 0.3,
                        cost: str | TabledCost = 'macs', blocks: int = 0, saliency: MethodLike | None = None,
                        multiple: int = 1, minimum: float = 0.1, samples: int = 256, ridge: float | None = 0.01,
                        positions: int | None = 64, validation: Data | None = None, seed: int = 0,
                        processes: int = 1) -> dict[str, nn.Module]:
    """Make small networks of a trained classifier, each for a problem of its own; no gradient step is taken.

    ::

        modules = modularize_channels(net, (images, labels), dict(cat=[3], pets=[3, 5], kinds=[[0, 1, 8, 9], [2, 4]]))
        print(modules['cat'].report)            # recall of: class 3, the rest

    One pass over the images of the problems gives second moments by class of what layers read; those of a problem are
    sums of them. Then, for each problem: a head for its labels is solved for; blocks that change their stream least are
    taken out; channels, units and attention heads go whose readers lose least on the problem's images for what is saved
    (:func:`~mmreuse.modularization.structured.saliency.problem_scores`); what is left is refitted in order to the
    whole network with that head (:func:`mmreuse.calibration.calibrate`, without labels); and the head is solved for
    once more, on what the small network gives.

    Args:
        model: From images to scores, or its file; left as it is. It ends in a linear layer.
        data: Images (N, ...) and labels (N,) of the model's classes; a data set, or batches, of both. All of them are
            held in memory.
        problems: Classes by name, as ids or names: several classes, each a label; groups of classes, each a label; or
            one class or group, which is told from all others.
        target: Share of the cost to keep, in (0, 1]; 1 keeps all channels.
        cost: ``'macs'``, ``'params'``, ``'bytes'``, or milliseconds, ``mmreuse.deployment.LatencyCost(...)``: for all
            but the first, widths are the optimum of an integer program.
        blocks: How many whole blocks go, before channels do.
        saliency: Of :data:`mmreuse.registry.SALIENCIES`, in place of the problem's moments.
        multiple: Of widths, see :func:`mmreuse.pruning.prune_channels`.
        minimum: Share of its members that every space keeps.
        samples: Images of each problem that layers are refitted on.
        ridge: Of :func:`~mmreuse.calibration.calibrate`, as ``positions``.
        positions: Of each image.
        validation: As ``data``, not of the test set, for the report; otherwise that is about ``data``.
        seed: Of the choice of images and positions.
        processes: That the problems are dealt out to, behind the pass that they share.

    Returns:
        dict[str, nn.Module]: Ordinary networks with the model's module names, by problem. The ``report`` of each
        is a :class:`~mmreuse.modularization.report.ModuleReport`, whose ``ratio`` is the share of the parameters.

    Raises:
        ConfigError: A number is out of range, there is no such class, or the network does not end in a linear layer.
        DataError: A problem has a label without images, or images are too few.
        SpaceError: Nothing in the network can shrink.
        InfeasibleError: Even the smallest network allowed costs more, or has not so many blocks to lose.
    """
    recipe = Recipe(target, cost, blocks, saliency, multiple, minimum, samples, ridge, positions, seed)
    recipe.check()
    base = Base.of(open_network(model), data, problems, recipe, validation)
    solvers = [Solver(base, problem, recipe) for problem in base.problems]
    # What is measured is measured in turn: engines that are timed side by side slow each other down.
    choices = [None if isinstance(cost, str) else each.choose() for each in solvers]
    made = forked(lambda number: solvers[number].solve(choices[number]), len(solvers), processes)
    return {problem.name: module for problem, module in zip(base.problems, made, strict=True)}


@dataclass(frozen=True, eq=False)
class Base:
    """What all modules of a network share."""
    model: nn.Module
    macs: int  # of the model
    graph: TracedModel  # of a copy
    final: FinalLayer
    spaces: list[str]  # that may shrink
    samples: Samples
    judged: Samples  # that reports are about
    judged_on: str
    problems: list[Problem]
    labels: Tensor  # (problems, atoms)
    profile: Profile  # by atom, see atoms_of

    @classmethod
    def of(cls, model: nn.Module, data: Data, problems: Mapping[str, ProblemClasses | Problem],
           recipe: Recipe, validation: Data | None) -> 'Base':
        """Trace a network and run it once over the images of all problems."""
        samples = Samples.of(data, model)
        inputs = inputs_for(model, torch.zeros_like(samples.images[:1]))
        final = final_layer(model, (inputs,))
        known = [str(each) for each in record_of(model).classes]
        chosen = problems_of(problems, known if len(known) == final.classes else final.classes)
        counts = samples.classes.bincount(minlength=final.classes)
        if len(counts) > final.classes:
            raise DataError(f'modularize_channels: the data have the label {len(counts) - 1}, and the network the '
                            f'classes 0 to {final.classes - 1}. Give labels of its classes.')
        for problem in chosen:
            problem.check_counts(counts)
        graph = verified(copy_model(model).eval(), inputs)
        spaces = resizable(graph, prunable_spaces(graph)) if recipe.target < 1 else []
        groups, labels = atoms_of(chosen, final.classes)
        layers = list(dict.fromkeys([*readers(graph, spaces), final.name]))
        blocks = removable_blocks(graph.model, graph.inputs) if recipe.blocks else []
        found = profile(graph.model, samples.images, groups[samples.classes], labels.shape[1], layers, blocks)
        judged, judged_on = (samples, 'training data') if validation is None else (
            Samples.of(validation, graph.model, 'validation'), 'validation data')
        return cls(model, count_macs(model, graph.inputs), graph, final, spaces, samples, judged, judged_on, chosen,
                   labels, found)


class Solver:
    """Makes the module of one problem."""

    def __init__(self, base: Base, problem: Problem, recipe: Recipe) -> None:
        self.base, self.problem, self.recipe = base, problem, recipe
        self.labels = base.labels[base.problems.index(problem)]
        self.weights = balanced(base.profile.images.double(), self.labels)

    def solve(self, choice: Choice | None = None) -> nn.Module:
        """Return the module, with its record and report."""
        base, recipe = self.base, self.recipe
        whole = self._with_head(base.graph)
        choice = choice or self._choose(whole)
        maps = {name: Select(torch.tensor(kept)) for name, kept in choice.kept.items()}
        module, source = transform(without_blocks(whole, choice.blocks), maps), Source.mapped(whole, maps)
        if choice.blocks or choice.kept:
            own = base.samples.of_problem(self.problem, base.final.classes, recipe.samples, recipe.seed)
            calibrate(module, [source], own.images, ridge=recipe.ridge, positions=recipe.positions, seed=recipe.seed)
            set_head(module, base.final.name, *self._head_on(module))
        share = count_macs(module, base.graph.inputs) / base.macs
        record_change(module, 'modularize_channels', base.model, inputs=base.graph.inputs, share=share,
                      labels=list(self.problem.labels), groups=[list(group) for group in self.problem.groups],
                      rest=self.problem.rest, blocks=list(choice.blocks), kept=choice.kept, outputs=source.outputs())
        set_record(module, replace(record_of(module), classes=list(self.problem.labels)))
        module.report = self._report(whole.model, module.eval())
        module.report.warn()
        return module

    def choose(self) -> Choice:
        """Choose what the module keeps, within the budget."""
        return self._choose(self._with_head(self.base.graph))

    def _with_head(self, graph: TracedModel) -> TracedModel:
        """Return the whole network with a head for the problem, solved for from the moments of the pass."""
        name = self.base.final.name
        head = solve_head(self.base.profile.inputs[name], self.labels, len(self.problem.labels))
        return replace(graph, model=set_head(copy_model(graph.model), name, *head))

    def _choose(self, whole: TracedModel) -> Choice:
        """Choose the blocks that go, and channels until the budget is met."""
        recipe, base = self.recipe, self.base
        blocks = tuple(least_changing(base.profile.changed, self.weights, recipe.blocks))
        short = without_blocks(whole, blocks)
        if recipe.target == 1:
            return Choice(blocks, {})
        maps = self._maps_of_macs(whole, short) if recipe.cost == 'macs' else self._maps_within(whole, short)
        return Choice(blocks, {name: each.index.tolist() for name, each in maps.items()})

    def _maps_of_macs(self, whole: TracedModel, short: TracedModel) -> dict[str, Select]:
        recipe = self.recipe
        share = count_macs(short.model, whole.inputs) / self.base.macs
        if share <= recipe.target:
            return {}
        scores = self._scores(short)
        if recipe.saliency is None:
            scores = per_mac(short, scores)
        return choose_channels(short, scores, recipe.target, multiple=recipe.multiple, minimum=recipe.minimum,
                               relative=recipe.saliency is not None, share=share)

    def _maps_within(self, whole: TracedModel, short: TracedModel) -> dict[str, Select]:
        recipe = self.recipe
        cost = TABLED_COSTS[recipe.cost] if isinstance(recipe.cost, str) else recipe.cost
        budget = dict(target=recipe.target)
        if short is not whole:  # the share is of the network with all its blocks
            widths = candidate_widths(whole, self.base.spaces, recipe.multiple, recipe.minimum)
            budget = dict(limit=recipe.target * cost_of(cost.tables(whole, widths), widths, {}))
        return choose_within(short, self._scores(short), cost, **budget, multiple=recipe.multiple,
                             minimum=recipe.minimum, relative=recipe.saliency is not None)[0]

    def _scores(self, graph: TracedModel) -> dict[str, Tensor]:
        """Return the saliency of every member of the spaces that may shrink."""
        spaces = [name for name in self.base.spaces if name in graph.spaces]
        if self.recipe.saliency is None:
            return problem_scores(graph, spaces, self.base.profile.inputs, self.weights)
        method = find_method(SALIENCIES, self.recipe.saliency)
        return channel_scores(graph, spaces, score_weights(method, listed_weights(graph.model), None))

    def _head_on(self, module: nn.Module) -> tuple[Tensor, Tensor]:
        """Solve for the head on what the small network gives of all the problem's images."""
        own, final = self.base.samples, self.base.final
        labels = self.problem.table(final.classes)[own.classes]
        return head_on(module, final.name, own.images, labels, len(self.problem.labels))

    def _report(self, whole: nn.Module, module: nn.Module) -> ModuleReport:
        own = self.base.judged.of_problem(self.problem, self.base.final.classes, None, self.recipe.seed)
        predicted = {name: predict(network, own.images) for name, network in (('head only', whole), ('module', module))}
        return report_of(predicted, own.classes, self.problem.labels, count_params(module) / count_params(whole),
                         self.base.judged_on)
