"""Train a network, or fine-tune it."""
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmreuse.engine.jobs.job import Classes
from mmreuse.engine.training.train_in_folder import train_in_folder
from mmreuse.errors import ConfigError, DataError
from mmreuse.graph import copy_model
from mmreuse.networks import create, record_edit
from mmreuse.registry import JOBS
from mmreuse.statistics.data import logits_of
from mmreuse.statistics.passes import labelled as labelled_batch

OPTIMIZER = dict(type='AdamW', lr=1e-3, weight_decay=0.05)


def _classes(options: Mapping[str, Any], given: Sequence[Classes], data: Classes) -> Classes:
    if given and 'model' in options:
        raise ConfigError('a network and a model are given: train the network, or train the model from scratch.')
    if not given and 'model' not in options:
        raise ConfigError('there is no network to fine-tune. Name one, or give model=dict(type=...) to train.')
    return given[0] if given else data


def _check(options: Mapping[str, Any]) -> None:
    if options.get('epochs', 1) < 1:
        raise ConfigError(f"epochs = {options['epochs']}: train for at least one.")


@JOBS.register_module(networks=(0, 1), needs=('labelled', 'seed', 'folder'), classes=_classes, check=_check,
                      equal_cost='the network before costs the same')
def train(networks: Sequence[nn.Module], *, labelled: Iterable, seed: int = 0, folder: Path,
          model: Mapping[str, Any] | None = None, epochs: int = 1, optimizer: Mapping[str, Any] = OPTIMIZER,
          paramwise_cfg: Mapping[str, Any] | None = None) -> nn.Module:
    """Train by cross-entropy, at a rate that falls along a cosine to nothing.

    Args:
        networks: The network to start from; none for one with random weights.
        labelled: Batches of images and labels.
        seed: Of random weights, and of the training's draws.
        folder: Has the checkpoints that a killed training resumes from.
        model: Config of the network where there is none.
        epochs: Passes over the data.
        optimizer: Config of :data:`mmengine.registry.OPTIMIZERS`.
        paramwise_cfg: Of mmengine's optimizer constructor: other rates and decays for some parameters.

    Raises:
        DataError: The loss is not finite, or a label is none of the outputs.
    """
    network = copy_model(networks[0]) if networks else _new(model, seed)

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, labels = labelled_batch(batch, network)
        scores = logits_of(network(inputs))
        if int(labels.max()) >= scores.shape[1]:
            raise DataError(f'a label is {int(labels.max())}, and the network has outputs for 0 to '
                            f'{scores.shape[1] - 1}. Give it as many outputs as there are classes, or mend the labels.')
        return F.cross_entropy(scores, labels)

    train_in_folder(network, labelled, loss, folder, epochs=epochs, optimizer=optimizer, paramwise_cfg=paramwise_cfg,
                    seed=seed)
    return record_edit(network.eval(), 'train', networks or [network], epochs=epochs)


def _new(model: Mapping[str, Any], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return create(model)
