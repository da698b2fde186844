"""Masks of a pretrained network that a new task does without: how they start, how many, which are taken."""
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmreuse.engine.hooks.modularization import task_loss
from mmreuse.engine.hooks.transfer import bare
from mmreuse.errors import ConfigError
from mmreuse.models.classifiers import FrozenClassifier
from mmreuse.modularization import (
    frozen_hash,
    hold_budget,
    mask_parameters,
    mask_ratio,
    mask_saliency,
    mask_state,
    rank_masks,
)
from mmreuse.modularization.budget import check_share
from mmreuse.pruning import polynomial
from mmreuse.registry import HOOKS
from mmreuse.utils.io import atomic_path, load_checkpoint


@HOOKS.register_module()
class BackboneBudgetHook(Hook):
    """Starts masks from saliencies, and holds what is kept to a budget that shrinks from everything to ``ratio``.

    In place of a sparsity term and of masks that start at 1: few steps do then.

    Args:
        ratio: Share of the weights to keep in the end, in (0, 1].
        end: Share of the training after which the budget stays as it is, in [0, 1].
        interval: Iterations between two corrections; there is one at the end of every epoch as well.
        samples: Of the training data, for the saliencies.

    Raises:
        ConfigError: A number is out of range, or the model has no masks.
    """

    def __init__(self, ratio: float, end: float = 0.5, interval: int = 10, samples: int = 512) -> None:
        check_share(ratio)
        if not 0 <= end <= 1 or interval < 1:
            raise ConfigError(f'BackboneBudgetHook: end={end} is not in [0, 1], or interval={interval} is below 1.')
        self.ratio = ratio
        self.end = end
        self.interval = interval
        self.samples = samples

    def before_train(self, runner: Runner) -> None:
        """Rank the masks."""
        model = masked_classifier(runner)
        if runner.iter > 0:
            return
        model.train()
        saliency = mask_saliency(model.backbone, partial(task_loss, model), self._batches(model, runner))
        rank_masks(model.backbone, saliency)
        for mask in mask_parameters(model.backbone).values():
            broadcast(mask.data)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Correct the masks."""
        if self.every_n_train_iters(runner, self.interval) or self.end_of_epoch(runner.train_dataloader, batch_idx):
            sparsity = polynomial(runner.iter + 1, 0, int(self.end * runner.max_iters), 1 - self.ratio)
            hold_budget(masked_classifier(runner).backbone, 1 - sparsity)

    def _batches(self, model: FrozenClassifier, runner: Runner) -> Iterator[dict]:
        seen = 0
        for batch in runner.train_dataloader:
            yield model.data_preprocessor(batch, training=True)
            seen += len(batch['inputs'])
            if seen >= self.samples:
                return


@HOOKS.register_module()
class MaskThresholdHook(Hook):
    """Chooses the masks of a :class:`~mmreuse.models.FrozenClassifier`, and ends training, as SeaM does before tuning.

    After every epoch: if the share of weights that is masked out has reached ``threshold``, these masks are taken and
    training ends; otherwise those with the highest accuracy minus share of kept weights, so far. Masks, as bits, the
    hash of the weights they belong to, and the history lie in ``selection.pth`` at any time.

    Args:
        threshold: In (0, 1]; 1, as published, is never reached.
        patience: Epochs without a better state before training ends; None: never.
        metric: Accuracy on the validation data, in per cent.

    Raises:
        ConfigError: A number is out of range, the model has no masks, the run does not validate after every epoch, or
            its evaluator has no such metric.
    """

    # Behind the checkpoint hook, which has to be ready when a validation is made up for.
    priority = 'LOWEST'

    def __init__(self, threshold: float = 1., patience: int | None = None, metric: str = 'accuracy/top1') -> None:
        if not 0 < threshold <= 1:
            raise ConfigError(f'MaskThresholdHook: threshold={threshold} is not in (0, 1]. It is the share of weights '
                              'to mask out.')
        if patience is not None and patience < 1:
            raise ConfigError(f'MaskThresholdHook: patience={patience}: take at least one epoch, or None.')
        self.threshold = threshold
        self.patience = patience
        self.metric = metric

    def before_train(self, runner: Runner) -> None:
        """Look whether there is something to choose, or read what an earlier part of the run chose."""
        model = masked_classifier(runner)
        if runner.val_loop is None or runner.train_loop.val_interval != 1:
            raise ConfigError('MaskThresholdHook chooses on validation data after every epoch: give the config a '
                              'val_dataloader and train_cfg.val_interval = 1.')
        self.path = Path(runner.work_dir) / 'selection.pth'
        self.state: dict[str, Any] = dict(base=frozen_hash(model.backbone), masks={}, chosen=None, history=[])
        if runner.epoch > 0 and self.path.is_file():
            self.state = load_checkpoint(self.path)
            if self.state['history'][-1]['epoch'] < runner.epoch:
                runner.val_loop.run()
            runner.train_loop.stop_training = self._done

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Judge the masks."""
        history = self.state['history']
        if history and history[-1]['epoch'] >= runner.epoch:
            return
        if self.metric not in metrics:
            raise ConfigError(f"MaskThresholdHook: the evaluator gives no '{self.metric}' but {sorted(metrics)}.")
        backbone = masked_classifier(runner).backbone
        row = dict(epoch=runner.epoch, accuracy=float(metrics[self.metric]) / 100, ratio=mask_ratio(backbone))
        history.append(row)
        chosen = self.state['chosen']
        if chosen is None or self._reached(row) or _spare(row) > _spare(chosen):
            masks = {name: mask.cpu() for name, mask in mask_state(backbone).items()}
            self.state |= dict(chosen=row, masks=masks)
        runner.message_hub.update_scalar('val/ratio', row['ratio'])
        runner.logger.info(f'{_words(row)}. Masks so far: {_words(self.state["chosen"])}.')
        if is_main_process():
            with atomic_path(self.path) as path:
                torch.save(self.state, path)
        runner.train_loop.stop_training = self._done

    def after_train(self, runner: Runner) -> None:
        """Say which masks it are."""
        chosen = self.state['chosen']
        if self.threshold < 1 and not self._reached(chosen):
            runner.logger.warning(f'No epoch has masked out {self.threshold:.0%} of the weights. Train longer, or '
                                  'raise alpha or the learning rate of the masks.')
        for name, value in chosen.items():
            runner.message_hub.update_scalar(f'masks/{name}', value)

    @property
    def _done(self) -> bool:
        waited = self.state['history'][-1]['epoch'] - self.state['chosen']['epoch']
        return self._reached(self.state['chosen']) or self.patience is not None and waited >= self.patience

    def _reached(self, row: dict[str, float]) -> bool:
        return self.threshold < 1 and 1 - row['ratio'] >= self.threshold


def masked_classifier(runner: Runner) -> FrozenClassifier:
    """The runner's model.

    Raises:
        ConfigError: It is of another kind, or has no masks.
    """
    model = bare(runner.model)
    if not isinstance(model, FrozenClassifier):
        raise ConfigError(f'this hook works on masks of a FrozenClassifier; model.type = {type(model).__name__}.')
    mask_parameters(model.backbone)
    return model


def _spare(row: dict[str, float]) -> float:
    return row['accuracy'] - row['ratio']


def _words(row: dict[str, float]) -> str:
    return (f"epoch {row['epoch']}, {100 * row['ratio']:.2f} % of the weights, {100 * row['accuracy']:.2f} % right on "
            'the validation data')
