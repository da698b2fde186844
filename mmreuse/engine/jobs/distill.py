"""Distil a network from what it was made of, and modules from theirs."""
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmreuse.distillation import Objective, plain_scoring
from mmreuse.distillation.controls import random_start
from mmreuse.distillation.modules import distil_modules as distil_module_networks
from mmreuse.distillation.objective import followed
from mmreuse.engine.jobs.job import example
from mmreuse.engine.training.train_in_folder import TRAINING, train_in_folder
from mmreuse.errors import ConfigError
from mmreuse.graph import copy_model
from mmreuse.networks import modules_of, record_edit, with_modules
from mmreuse.registry import JOBS, TEACHERS
from mmreuse.statistics import device_of
from mmreuse.statistics.passes import images_of
from mmreuse.utils.configs.methods import MethodLike, find_method
from mmreuse.utils.files.io import state_hash

OPTIMIZER = dict(type='AdamW', lr=1e-3, weight_decay=0.01)


def _check(options: Mapping[str, Any]) -> None:
    for teacher in options.get('teachers') or ():
        find_method(TEACHERS, teacher)
    if options.get('epochs', 1) < 1:
        raise ConfigError(f"epochs = {options['epochs']}: distil for at least one.")


def _from_random(networks: Sequence[nn.Module], result: nn.Module, *, seed: int, **options: Any) -> nn.Module:
    """Distil random weights alike: what is reached so is not owed to the network."""
    return distill([random_start(networks[0], seed), *networks[1:]], seed=seed, **options)


@JOBS.register_module(networks=(2, None), needs=('images', 'seed', 'folder'), check=_check, equal_cost=_from_random)
def distill(networks: Sequence[nn.Module], *, images: Iterable, seed: int = 0, folder: Path, epochs: int = 1,
            teachers: Sequence[MethodLike] | None = None, optimizer: Mapping[str, Any] = OPTIMIZER) -> nn.Module:
    """Train a network without labels, on what its sources say, at a rate that falls along a cosine to nothing.

    Args:
        networks: The network, and behind it what it was made of, see :func:`mmreuse.distillation.plain_scoring`.
        images: Batches; labels are not used.
        seed: Of the order of the images.
        folder: Has the checkpoints that a killed training resumes from.
        epochs: Passes over the images.
        teachers: Names or configs of :data:`mmreuse.registry.TEACHERS`; see :class:`mmreuse.distillation.Objective`.
        optimizer: Config of :data:`mmengine.registry.OPTIMIZERS`.

    Raises:
        ConfigError: The networks' outputs do not fit each other.
        DataError: The loss is not finite.
    """
    network, *sources = copy_model(networks[0]), *(source.eval() for source in networks[1:])
    objective = Objective(plain_scoring(network, sources, example(networks, images)), teachers, network,
                          followed(network, sources))

    def loss(batch: Any) -> Tensor:
        return sum(objective.losses(images_of(batch, network)).values())

    train_in_folder(network, images, loss, folder, epochs=epochs, optimizer=optimizer, seed=seed, made_of=dict(
        sources=list(map(state_hash, sources)), teachers=None if teachers is None else list(teachers)))
    return record_edit(network.eval(), 'distill', networks, epochs=epochs)


def _modules_from_random(networks: Sequence[nn.Module], result: nn.Module, *, seed: int, **options: Any) -> nn.Module:
    """Distil modules of random weights alike."""
    modules = {name: random_start(module, seed) for name, module in modules_of(networks[0]).items()}
    return distil_modules([with_modules(networks[0], modules), *networks[1:]], seed=seed, **options)


@JOBS.register_module(networks=(1, 2), needs=('images', 'labelled', 'seed', 'folder'), check=_check,
                      modules=lambda options, given, known: known, equal_cost=_modules_from_random)
def distil_modules(networks: Sequence[nn.Module], *, images: Iterable, labelled: Iterable | None = None, seed: int = 0,
                   folder: Path, steps: int = 400, views: int = 4, offsets: bool = False,
                   teachers: Sequence[MethodLike] | None = None, lr: float = 1e-3, weight_decay: float = 0.01,
                   every: int = 20, amp: bool = False) -> nn.Module:
    """Train the modules of a network on what it says of their problems, without labels.

    See :func:`mmreuse.distillation.modules.distil_modules`.

    Args:
        networks: The network with its modules (of ``modularize_channels`` with ``problems``), and behind it another one
            of the same classes where that is to teach.
        images: Batches; labels are not used.
        labelled: The same with labels, for ``offsets``.
        seed: Of the order of images and of their views.
        folder: Keeps finished modules, so that a killed job goes on with the next one.
        steps: Of each module.
        views: Of each image.
        offsets: Give the labels of each module offsets that fit the images' labels.
        teachers: Names or configs of :data:`mmreuse.registry.TEACHERS`.
        lr: Of AdamW, as ``weight_decay``.
        weight_decay: Of AdamW.
        every: After how many steps a module is compared with the network.
        amp: Compute in bfloat16 where that is safe.

    Raises:
        ConfigError: The network has no modules.
        DataError: There are too few images, or the loss is not finite.
    """
    modules = modules_of(networks[0])
    if not modules:
        raise ConfigError('the network has no modules. Name a file of modules (the job modularize_channels with '
                          'problems makes one), or take the job distill for a single one: networks=[module, network].')
    made, reports = distil_module_networks(
        {name: module.to(device_of(networks[0])) for name, module in modules.items()}, networks[-1], images,
        steps=steps, views=views, labelled=labelled if offsets else None, teachers=teachers, seed=seed, lr=lr,
        weight_decay=weight_decay, every=every, amp=amp, cache_dir=folder / TRAINING)
    for name, report in reports.items():
        print(f'{name}\n{report}')
    return with_modules(networks[0], made)
