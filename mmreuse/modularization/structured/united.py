"""Modules put together and taken apart: of one base, of different networks, and class by class."""
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.graph import copy_model, frozen_random
from mmreuse.modularization.structured.closed_head import final_layer, head_on, set_head
from mmreuse.modularization.structured.modularize_channels import Base, Choice, Recipe, Solver
from mmreuse.modularization.structured.problem import Problem, ProblemClasses
from mmreuse.modularization.structured.samples import Samples
from mmreuse.networks import Edit, open_network, record_change, record_edit, record_of
from mmreuse.networks.record import set_record, zeros_of
from mmreuse.networks.references import Reference
from mmreuse.registry import EDITS
from mmreuse.statistics import Data, logits_of
from mmreuse.utils.class_split import class_ids
from mmreuse.utils.files.io import state_hash


def unite_modules(modules: Sequence[Reference], base: Reference, data: Data, *, samples: int = 256,
                  ridge: float | None = 0.01, positions: int | None = 64, validation: Data | None = None,
                  seed: int = 0) -> nn.Module:
    """Make one module of several of one base: it keeps what any of them keeps, and has the labels of all.

    What is kept is refitted in order to the whole base with the joint head, and the head is solved for, as of a single
    module; so the result is the one that :func:`modularize_channels` would make of these channels.

    Args:
        modules: Of :func:`~mmreuse.modularization.modularize_channels`, or their files.
        base: The network that they were made of, or its file.
        data: Images and labels of the base's classes.
        samples: As for :func:`~mmreuse.modularization.modularize_channels`, and so what follows.
        ridge: Of the refit.
        positions: Of the refit.
        validation: For the report.
        seed: Of the choice of images and positions.

    Returns:
        nn.Module: With a ``report``. Its labels are those of the modules in their order, ``rest`` the last if any
        module has it.

    Raises:
        ArtefactError: A network is no such module, or of another base.
        ConfigError: Two modules share a class, or there are none.
        DataError: A label has no images.
    """
    base, made = open_network(base), [_settings(open_network(each)) for each in modules]
    if not made:
        raise ConfigError('there are no modules to unite.')
    wrong = next((number for number, each in enumerate(made) if each['of'][0].get('weights') != state_hash(base)), None)
    if wrong is not None:
        raise ArtefactError(f'module {wrong} was made of another base. Unite modules of different networks by '
                            'join_modules.')
    groups = [tuple(group) for each in made for group in each['groups']]
    flat = [each for group in groups for each in group]
    if len(set(flat)) < len(flat):
        raise ConfigError(f'the modules share classes: {groups}. Take modules of distinct classes.')
    labels = [label for each in made for label in each['labels'][:len(each['groups'])]]
    rest = any(each['rest'] for each in made)
    problem = Problem('united', tuple(groups), (*labels, 'rest') if rest else tuple(labels), rest)
    recipe = Recipe(target=1., samples=samples, ridge=ridge, positions=positions, seed=seed)
    return Solver(Base.of(base, data, {'united': problem}, recipe, validation), problem, recipe).solve(_union(made))


def _settings(module: nn.Module) -> Mapping[str, Any]:
    settings = record_of(module).structure
    if settings.get('edit') != 'modularize_channels':
        raise ArtefactError(f"a {type(module).__name__} that was last changed by '{settings.get('edit')}' is no module "
                            'of modularize_channels.')
    return settings


def _union(made: Sequence[Mapping[str, Any]]) -> Choice:
    blocks = [name for name in made[0]['blocks'] if all(name in each['blocks'] for each in made)]
    shrunk = [name for name in made[0]['kept'] if all(name in each['kept'] for each in made)]
    return Choice(tuple(blocks), {name: sorted({member for each in made for member in each['kept'][name]})
                                  for name in shrunk})


class JoinedModules(nn.Module):
    """Networks side by side, without their last layers, and one head on the features of all.

    Args:
        trunks: From images to features (N, ...).
        features: Of all together.
        labels: How many.
    """

    def __init__(self, trunks: Sequence[nn.Module], features: int, labels: int) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(trunks)
        self.head = nn.Linear(features, labels)

    def forward(self, images: Tensor) -> Tensor:
        """Score the labels, (N, labels)."""
        return self.head(torch.cat([logits_of(trunk(images)) for trunk in self.trunks], 1))


@EDITS.register_module(name='join_modules')
class JoinEdit(Edit):
    """Networks side by side under one head."""
    keeps_layers = False

    def rebuild(self, networks: Sequence[nn.Module], settings: Mapping[str, Any]) -> nn.Module:
        """Put the networks side by side."""
        return _side_by_side(networks, settings['heads'], settings['features'], len(settings['labels']))

    def phrase(self, settings: Mapping[str, Any]) -> str:
        """Say for which labels."""
        return f"side by side with a head for {', '.join(settings['labels'])}"


def _side_by_side(networks: Sequence[nn.Module], heads: Sequence[str], features: int, labels: int) -> JoinedModules:
    for network, name in zip(networks, heads, strict=True):
        path, _, own = name.rpartition('.')
        network.get_submodule(path)._modules[own] = nn.Identity()
    with frozen_random(0):  # what it draws is overwritten
        return JoinedModules(networks, features, labels)


def join_modules(modules: Sequence[Reference], data: Data, classes: ProblemClasses,
                 names: Sequence[str] | None = None) -> JoinedModules:
    """Make one classifier of modules of different networks: side by side, under a head that is solved for.

    What the modules compute stays as it is, so nothing is lost but their own heads. It costs what they cost together;
    one network in the place of several is what :func:`mmreuse.merging.merge` makes.

    Args:
        modules: Networks that end in a linear layer and take the same images, or their files.
        data: Images and labels of all classes.
        classes: As labels of the data, or names: the labels of the result, see
            :func:`~mmreuse.modularization.modularize_channels`.
        names: Of the data's classes.

    Raises:
        ConfigError: There are no modules, they prepare images differently, or there is no such class.
        DataError: A label has no images.
    """
    networks = [open_network(each) for each in modules]
    if not networks or any(record_of(each).preprocessing != record_of(networks[0]).preprocessing for each in networks):
        raise ConfigError('join_modules: there must be modules, and all must prepare their images alike.')
    problem, own = _labelled('joined', data, networks[0], classes, names)
    first = own.images[:1]
    finals = [final_layer(network, (first,)) for network in networks]
    features, heads = sum(final.features for final in finals), [final.name for final in finals]
    joined = _side_by_side([copy_model(each) for each in networks], heads, features, len(problem.labels)).eval()
    set_head(joined, 'head', *head_on(joined, 'head', own.images, own.classes, len(problem.labels)))
    record_edit(joined, 'join_modules', networks, inputs=first, heads=heads, features=features,
                labels=list(problem.labels))
    return set_record(joined, replace(record_of(joined), classes=list(problem.labels)))


def _labelled(name: str, data: Data, network: nn.Module, classes: ProblemClasses,
              names: Sequence[str] | None) -> tuple[Problem, Samples]:
    """Return the problem of some classes of data, and the images with its labels."""
    samples = Samples.of(data, network)
    counts = samples.classes.bincount(minlength=len(names or ()))
    problem = Problem.of(name, classes, names or len(counts))
    problem.check_counts(counts)
    return problem, samples.of_problem(problem, len(counts))


def take_away(network: Reference, labels: Sequence[int | str]) -> nn.Module:
    """Return a classifier without some of its labels. The scores of the others are exactly what they were.

    Args:
        network: That ends in a linear layer, or its file; left as it is.
        labels: Names or numbers of its outputs.

    Raises:
        ConfigError: There is no such label, or none would be left.
    """
    network = open_network(network)
    final, known = _final(network)
    gone = class_ids(labels, known)
    left = [number for number in range(final.classes) if number not in gone]
    if not left:
        raise ConfigError(f'take_away: no label would be left of {known}.')
    layer, twin = network.get_submodule(final.name), copy_model(network)
    set_head(twin, final.name, layer.weight[left], layer.bias[left])
    return _relabelled(twin, 'take_away', network, [known[number] for number in left])


def add_class(network: Reference, data: Data, classes: ProblemClasses, names: Sequence[str] | None = None) -> nn.Module:
    """Return a classifier with one label more, whose row is solved for. The scores of the others are what they were.

    Args:
        network: That ends in a linear layer, or its file; left as it is.
        data: Images and labels of all its classes, and of the new one.
        classes: Of the network's labels in their order, as the data have them, and of the new one.
        names: Of the data's classes.

    Raises:
        ConfigError: There are not so many labels, or there is no such class.
        DataError: A label has no images.
    """
    network = open_network(network)
    final, known = _final(network)
    problem, own = _labelled('added', data, network, classes, names)
    if len(problem.labels) != final.classes + 1 or problem.rest:
        raise ConfigError(f'add_class: the network has the labels {known}, so classes must be {final.classes + 1}, the '
                          f'last being new; there are {len(problem.groups)}.')
    weight, bias = head_on(network, final.name, own.images, own.classes, len(problem.labels))
    layer, twin = network.get_submodule(final.name), copy_model(network)
    set_head(twin, final.name, torch.cat([layer.weight.detach(), weight[-1:].to(layer.weight)]),
             torch.cat([layer.bias.detach(), bias[-1:].to(layer.bias)]))
    return _relabelled(twin, 'add_class', network, [*known, problem.labels[-1]])


def _final(network: nn.Module) -> tuple[Any, list[str]]:
    """Return the last layer of a network, and the names of its outputs."""
    record = record_of(network)
    inputs = zeros_of(record.inputs, network)
    if not inputs:
        raise ConfigError(f'it is not known what {type(network).__name__} takes. Save it with `inputs`, and load it.')
    final = final_layer(network, inputs)
    known = list(map(str, record.classes))
    return final, known if len(known) == final.classes else list(map(str, range(final.classes)))


def _relabelled(twin: nn.Module, edit: str, network: nn.Module, labels: list[str]) -> nn.Module:
    record_change(twin, edit, network, labels=labels)
    return set_record(twin.eval(), replace(record_of(twin), classes=labels))


@EDITS.register_module(name='take_away')
class TakeAway(Edit):
    """Labels taken away."""

    def phrase(self, settings: Mapping[str, Any]) -> str:
        """Say which are left."""
        return f"without labels other than {', '.join(settings['labels'])}"


@EDITS.register_module(name='add_class')
class AddClass(Edit):
    """A label added."""

    def phrase(self, settings: Mapping[str, Any]) -> str:
        """Say which it is."""
        return f"with the label {settings['labels'][-1]} added"
