"""Distil a network from what it was made of."""
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmreuse.distillation import Objective, plain_scoring
from mmreuse.distillation.controls import random_start
from mmreuse.engine.jobs.job import example
from mmreuse.engine.training.train_in_folder import train_in_folder
from mmreuse.errors import ConfigError
from mmreuse.graph import copy_model
from mmreuse.networks import record_edit
from mmreuse.registry import JOBS, TEACHERS
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
    objective = Objective(plain_scoring(network, sources, example(networks, images)), teachers)

    def loss(batch: Any) -> Tensor:
        return sum(objective.losses(images_of(batch, network)).values())

    train_in_folder(network, images, loss, folder, epochs=epochs, optimizer=optimizer, seed=seed, made_of=dict(
        sources=list(map(state_hash, sources)), teachers=None if teachers is None else list(teachers)))
    return record_edit(network.eval(), 'distill', networks, epochs=epochs)
