"""Choose the state of the masks that becomes the module, and keep it."""
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmreuse.engine.hooks.modularization import MaskBudgetHook, original_logits, prepared_batches, target_classes
from mmreuse.engine.unwrap_model import model_of, models_of
from mmreuse.errors import ConfigError, DataError
from mmreuse.models.classifiers import ModularClassifier
from mmreuse.modularization import RunSelection, Selection, frozen_hash, original_labels
from mmreuse.registry import HOOKS


@HOOKS.register_module()
class ModuleSelectionHook(Hook):
    """Keeps the state that becomes the module, stops early, and measures the module on the test data in the end.

    What is kept, masks as bits and the head, lies in ``selection.pth`` at any time, with the history; a continued run
    goes on from there. After training it is put into the model. Of several problems each has a state of its own;
    training ends when all are done.

    A weight is kept if its mask and its gates are. While a budget still shrinks, a state is only one to fall back on.

    Args:
        reference: Accuracy, in [0, 1], not to fall below; None: that of the original network on the validation data,
            where the most likely of all its classes decides.
        patience: Epochs without a better state before training ends; None: never.
        compat: Count them as published, see :class:`mmreuse.modularization.Selection`.
        max_ratio: Take the most accurate state that keeps no more than this share of the weights.
        metric: Accuracy of the validation, in percent; of several problems that of each is ``<metric>_<number>``.
        check_interval: Iterations between two looks at whether the loss is finite.

    Raises:
        ConfigError: A number is out of range, the run does not validate after every epoch, or its evaluator has no such
            metric.
        DataError: The loss is not finite.
    """

    # Behind the checkpoint hook, which has to be ready when a validation is made up for.
    priority = 'LOWEST'
    makes_network = True

    def __init__(self, reference: float | None = None, patience: int | None = None, compat: bool = False,
                 max_ratio: float | None = None, metric: str = 'accuracy/top1', check_interval: int = 20) -> None:
        self.reference = reference
        self.options = dict(patience=patience, compat=compat, max_ratio=max_ratio)
        Selection(1. if reference is None else reference, **self.options)
        if check_interval < 1:
            raise ConfigError(f'ModuleSelectionHook: check_interval={check_interval} is below 1.')
        self.metric = metric
        self.check_interval = check_interval

    def before_train(self, runner: Runner) -> None:
        """Measure the original network, or read what an earlier part of the run kept."""
        model = model_of(runner, ModularClassifier)
        require_validations(self, runner)
        target_classes(model, runner.train_dataloader)
        self.path = Path(runner.work_dir) / 'selection.pth'
        if runner.epoch > 0 and self.path.is_file():
            known = RunSelection.read(self.path)
            self.kept = known.kept
            self.selections = [Selection(**state, **self.options) for state in known.selections]
            if self.selections[0].history[-1]['epoch'] < runner.epoch:
                runner.val_loop.run()
            return
        references = self._original(model, runner)
        self.selections = [Selection(reference, **self.options) for reference in references]
        self.kept: list[dict[str, Any]] = [{} for _ in references]
        runner.logger.info('Accuracy of the original network on the validation data: '
                           + ', '.join(f'{100 * reference:.2f} %' for reference in references))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict[str, Tensor] | None = None) -> None:
        """Stop on a loss that is not finite."""
        due = self.every_n_train_iters(runner, self.check_interval)
        if (due or self.end_of_epoch(runner.train_dataloader, batch_idx)) and not torch.isfinite(outputs['loss']):
            raise DataError(f'the loss is not finite at iteration {runner.iter + 1}: training has diverged. Lower the '
                            f'learning rates. {self.path} and the last checkpoint are as they were.')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Judge the state."""
        history = self.selections[0].history
        if history and history[-1]['epoch'] >= runner.epoch:
            return
        model = models_of(runner, ModularClassifier)[-1]  # what was validated: an average, if there is one
        within = all(hook.reached(runner) for hook in runner.hooks if isinstance(hook, MaskBudgetHook))
        ratios = [_ratio(model.kept(number)) for number in range(model.problems or 1)]
        for number, (selection, ratio) in enumerate(zip(self.selections, ratios, strict=True)):
            key = self.metric if model.problems is None else f'{self.metric}_{number + 1}'
            if key not in metrics:
                raise ConfigError(f"ModuleSelectionHook: the evaluator gives no '{key}' but {sorted(metrics)}.")
            if selection.judge(runner.epoch, float(metrics[key]) / 100, ratio, within):
                self.kept[number] = _state(model, number)
            runner.logger.info(f'{in_words(selection.history[-1])}. To be used so far: {in_words(selection.chosen)}.')
        runner.message_hub.update_scalar('val/ratio', sum(ratios) / len(ratios))
        if is_main_process():
            RunSelection(frozen_hash(model.base), self.kept,
                         [each.state() for each in self.selections]).write(self.path)
        runner.train_loop.stop_training = all(selection.stop for selection in self.selections)

    def after_train(self, runner: Runner) -> None:
        """Put the modules into the model, and measure them once on the test data."""
        for number, (selection, kept) in enumerate(zip(self.selections, self.kept, strict=True)):
            for model in models_of(runner, ModularClassifier):
                model.load_kept(kept['masks'], number)
                model.module_head.of(number).load_state_dict(kept['head'])
            runner.logger.info(f'The module: {in_words(selection.chosen)}, where the original network has '
                               f'{100 * selection.reference:.2f} %.')
            prefix = 'module' if model.problems is None else f'module_{number + 1}'
            for name, value in dict(selection.chosen, reference=selection.reference).items():
                runner.message_hub.update_scalar(f'{prefix}/{name}', value)
        if runner.test_loop is not None:
            runner.test_loop.run()

    def _original(self, model: ModularClassifier, runner: Runner) -> list[float]:
        classes = target_classes(model, runner.val_dataloader)
        if self.reference is not None:
            return [self.reference] * len(classes)
        binary = model.module_head.of(0).linear.out_features > len(classes[0])
        batches = prepared_batches(model, runner.val_dataloader)
        return [float((original_labels(logits, own, binary) == labels).double().mean())
                for own, (logits, labels) in zip(classes, original_logits(model, batches), strict=True)]


def _state(model: ModularClassifier, number: int) -> dict[str, dict[str, Tensor]]:
    """Return copies, for the model goes on changing."""
    parts = dict(masks=model.kept(number), head=model.module_head.of(number).state_dict())
    return {part: {name: tensor.cpu().clone() for name, tensor in state.items()} for part, state in parts.items()}


def _ratio(state: dict[str, Tensor]) -> float:
    return sum(int(kept.sum()) for kept in state.values()) / sum(kept.numel() for kept in state.values())


def require_validations(hook: Hook, runner: Runner) -> None:
    """Refuse a run that does not validate after every epoch.

    Raises:
        ConfigError: It does not.
    """
    if runner.val_loop is None or runner.train_loop.val_interval != 1:
        raise ConfigError(f'{type(hook).__name__} chooses on validation data after every epoch: give the config a '
                          'val_dataloader and train_cfg.val_interval = 1.')


def in_words(row: dict[str, float]) -> str:
    """Return what a row of a history says, for the log."""
    return (f"epoch {row['epoch']}, {100 * row['ratio']:.2f} % of the weights, {100 * row['accuracy']:.2f} % right on "
            'the validation data')
