"""Hooks of runs that learn a module: where it starts, what is trained when, how sparse it gets, which state is kept."""
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from mmreuse.errors import ConfigError, DataError
from mmreuse.models.classifiers import ModularClassifier
from mmreuse.modularization import (
    Selection,
    fit_head,
    hold_budget,
    load_mask_state,
    mask_parameters,
    mask_ratio,
    mask_saliency,
    mask_state,
    original_labels,
    rank_masks,
    select_classes,
)
from mmreuse.modularization.budget import check_share
from mmreuse.pruning import polynomial
from mmreuse.registry import HOOKS
from mmreuse.utils.io import atomic_path, load_checkpoint

_HEADS = ('fit', 'select', None)


def module_of(runner: Runner) -> ModularClassifier:
    """The runner's model.

    Raises:
        ConfigError: It is of another kind.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not isinstance(model, ModularClassifier):
        raise ConfigError(f'this hook works on a ModularClassifier; model.type = {type(model).__name__}.')
    return model


def target_classes(loader: DataLoader) -> list[int]:
    """The classes that a loader's problem is about.

    Raises:
        ConfigError: Its data set is no target problem.
    """
    classes = getattr(loader.dataset, 'metainfo', {}).get('target_classes')
    if classes is None:
        raise ConfigError(f'{type(loader.dataset).__name__} is no target problem: wrap the data set in BinaryProblem '
                          'or ClassProblem.')
    return classes


@HOOKS.register_module()
class MaskInitHook(Hook):
    """Starts the head, and ranks weights by what the loss says of them, before training.

    Args:
        head: ``'fit'``: the head that is best for the whole network on the training data; ``'select'``: from the target
            classes, see :func:`mmreuse.modularization.select_classes`; None: PyTorch's random one, as published.
        saliency: Whether masks start from the ranks of :func:`mmreuse.modularization.mask_saliency`; otherwise at 1.
        samples: Of the training data, for both.

    Raises:
        ConfigError: There is no such head.
    """

    def __init__(self, head: str | None = 'fit', saliency: bool = True, samples: int = 2048) -> None:
        if head not in _HEADS:
            raise ConfigError(f"MaskInitHook: there is no head '{head}'. Known: {_HEADS}.")
        self.head = head
        self.saliency = saliency
        self.samples = samples

    def before_train(self, runner: Runner) -> None:
        """Set masks and head."""
        model = module_of(runner)
        if runner.iter > 0:
            return
        model.train()
        if self.head is not None:
            select_classes(model.module_head, target_classes(runner.train_dataloader))
        if self.head == 'fit':
            loss = fit_head(model.module_head, *self._logits(model, runner.train_dataloader))
            runner.logger.info(f'The head alone fits the training data to a cross-entropy of {loss:.4f}.')
        if self.saliency:
            def task_loss(batch: dict) -> Tensor:
                return model(**batch, mode='loss')['loss_task']
            rank_masks(model.base, mask_saliency(model.base, task_loss, self._batches(model, runner.train_dataloader)))
        for parameter in (*mask_parameters(model.base).values(), *model.module_head.parameters()):
            broadcast(parameter.data)

    def _batches(self, model: ModularClassifier, loader: DataLoader) -> Iterator[dict]:
        """Prepared batches of the samples, in an order of their own: the run's loader is in use."""
        own = DataLoader(loader.dataset, loader.batch_size, shuffle=True, collate_fn=loader.collate_fn,
                         generator=torch.Generator().manual_seed(0))
        for batch in islice(own, math.ceil(self.samples / loader.batch_size)):
            yield model.data_preprocessor(batch, training=True)

    @torch.no_grad()
    def _logits(self, model: ModularClassifier, loader: DataLoader) -> tuple[Tensor, Tensor]:
        pairs = [(model.base(batch['inputs']), torch.cat([sample.gt_label for sample in batch['data_samples']]))
                 for batch in self._batches(model, loader)]
        return tuple(torch.cat(part) for part in zip(*pairs, strict=True))


@HOOKS.register_module()
class MaskScheduleHook(Hook):
    """Trains only the head in the first of every ``period`` epochs, as published.

    Args:
        period: 5 as published.

    Raises:
        ConfigError: ``period`` is not above 1.
    """

    def __init__(self, period: int = 5) -> None:
        if period < 2:
            raise ConfigError(f'MaskScheduleHook: period={period} leaves no epoch for the masks.')
        self.period = period

    def before_train_epoch(self, runner: Runner) -> None:
        """Hold the masks still, or let them go."""
        module_of(runner).train_only_head(runner.epoch % self.period == 0)


@HOOKS.register_module()
class MaskBudgetHook(Hook):
    """Holds what is kept to a budget that shrinks from everything to ``ratio``, in place of a sparsity term.

    Args:
        ratio: Share of the weights to keep in the end, in (0, 1].
        end: Share of the training after which the budget stays as it is, in [0, 1].
        interval: Iterations between two corrections; there is one at the end of every epoch as well.

    Raises:
        ConfigError: A number is out of range.
    """

    def __init__(self, ratio: float, end: float = 0.5, interval: int = 10) -> None:
        check_share(ratio)
        if not 0 <= end <= 1 or interval < 1:
            raise ConfigError(f'MaskBudgetHook: end={end} is not in [0, 1], or interval={interval} is below 1.')
        self.ratio = ratio
        self.end = end
        self.interval = interval

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Correct the masks."""
        if self.every_n_train_iters(runner, self.interval) or self.end_of_epoch(runner.train_dataloader, batch_idx):
            sparsity = polynomial(runner.iter + 1, 0, int(self.end * runner.max_iters), 1 - self.ratio)
            hold_budget(module_of(runner).base, 1 - sparsity)


@HOOKS.register_module()
class ModuleSelectionHook(Hook):
    """Keeps the state that becomes the module, stops early, and measures the module on the test data in the end.

    What is kept, masks as bits and the head, lies in ``selection.pth`` at any time, with the history; a continued run
    goes on from there. After training it is put into the model.

    Args:
        reference: Accuracy, in [0, 1], not to fall below; None: that of the original network on the validation data,
            where the most likely of all its classes decides.
        patience: Epochs without a better state before training ends; None: never.
        compat: Count them as published, see :class:`mmreuse.modularization.Selection`.
        max_ratio: Take the most accurate state that keeps no more than this share of the weights.
        metric: Accuracy of the validation, in per cent.
        check_interval: Iterations between two looks at whether the loss is finite.

    Raises:
        ConfigError: A number is out of range, the run does not validate after every epoch, or its evaluator has no such
            metric.
        DataError: The loss is not finite.
    """

    priority = 'LOW'

    def __init__(self, reference: float | None = None, patience: int | None = None, compat: bool = False,
                 max_ratio: float | None = None, metric: str = 'accuracy/top1', check_interval: int = 20) -> None:
        self.reference = reference
        self.options = dict(patience=patience, compat=compat, max_ratio=max_ratio)
        Selection(1. if reference is None else reference, **self.options)
        self.metric = metric
        self.check_interval = check_interval

    def before_train(self, runner: Runner) -> None:
        """Measure the original network, or read what an earlier part of the run kept."""
        model = module_of(runner)
        if runner.val_loop is None or runner.train_loop.val_interval != 1:
            raise ConfigError('ModuleSelectionHook chooses on validation data after every epoch: give the config a '
                              'val_dataloader and train_cfg.val_interval = 1.')
        self.path = Path(runner.work_dir) / 'selection.pth'
        self.kept: dict[str, Any] = {}
        if runner.epoch > 0 and self.path.is_file():
            self.kept = load_checkpoint(self.path)
            self.selection = Selection(**self.kept['selection'], **self.options)
            if self.selection.history and self.selection.history[-1]['epoch'] < runner.epoch:
                runner.val_loop.run()
            return
        reference = self._original(model, runner) if self.reference is None else self.reference
        self.selection = Selection(reference, **self.options)
        runner.logger.info(f'The original network has an accuracy of {100 * reference:.2f} % on the validation data.')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict[str, Tensor] | None = None) -> None:
        """Look whether training goes astray."""
        due = self.every_n_train_iters(runner, self.check_interval)
        if (due or self.end_of_epoch(runner.train_dataloader, batch_idx)) and not torch.isfinite(outputs['loss']):
            raise DataError(f'the loss is not finite at iteration {runner.iter + 1}: training has diverged. Lower the '
                            f'learning rates. {self.path} and the last checkpoint are as they were.')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Judge the state."""
        if self.metric not in metrics:
            raise ConfigError(f"ModuleSelectionHook: the evaluator gives no '{self.metric}' but {sorted(metrics)}.")
        history = self.selection.history
        if history and history[-1]['epoch'] >= runner.epoch:
            return
        model = module_of(runner)
        ratio = mask_ratio(model.base)
        if self.selection.judge(runner.epoch, float(metrics[self.metric]) / 100, ratio):
            self.kept = dict(masks=mask_state(model.base), head=model.module_head.state_dict())
            # The model goes on changing.
            self.kept = {part: {name: tensor.cpu().clone() for name, tensor in state.items()}
                         for part, state in self.kept.items()}
        runner.message_hub.update_scalar('val/ratio', ratio)
        runner.logger.info(f'{_words(history[-1])}. To be used so far: {_words(self.selection.chosen)}.')
        self._write()
        runner.train_loop.stop_training = self.selection.stop

    def after_train(self, runner: Runner) -> None:
        """Put the module into the model, and measure it once on the test data."""
        model, chosen = module_of(runner), self.selection.chosen
        load_mask_state(model.base, {name: mask.float() for name, mask in self.kept['masks'].items()})
        model.module_head.load_state_dict(self.kept['head'])
        runner.logger.info(f'The module: {_words(chosen)}, where the original network has '
                           f'{100 * self.selection.reference:.2f} %.')
        for name, value in dict(chosen, reference=self.selection.reference).items():
            runner.message_hub.update_scalar(f'module/{name}', value)
        if runner.test_loop is not None:
            runner.test_loop.run()

    def _write(self) -> None:
        if is_main_process():
            with atomic_path(self.path) as path:
                torch.save(dict(self.kept, selection=self.selection.state()), path)

    @torch.no_grad()
    def _original(self, model: ModularClassifier, runner: Runner) -> float:
        loader: DataLoader = runner.val_dataloader
        classes = target_classes(loader)
        binary = model.module_head.linear.out_features > len(classes)
        model.eval()
        right = []
        for batch in loader:
            batch = model.data_preprocessor(batch, training=False)
            labels = torch.cat([sample.gt_label for sample in batch['data_samples']])
            right.append(original_labels(model.base(batch['inputs']), classes, binary) == labels)
        return float(torch.cat(right).double().mean())




def _words(row: dict[str, float]) -> str:
    return (f"epoch {row['epoch']}, {100 * row['ratio']:.2f} % of the weights, {100 * row['accuracy']:.2f} % right on "
            'the validation data')
