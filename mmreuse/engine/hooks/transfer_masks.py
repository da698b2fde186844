"""Choose the masks of a pretrained network that a new task takes."""
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmreuse.engine.hooks.module_selection import in_words, require_validations
from mmreuse.engine.unwrap_model import model_of, models_of
from mmreuse.errors import ConfigError
from mmreuse.models.classifiers import FrozenClassifier
from mmreuse.modularization import RunSelection, frozen_hash, mask_parameters, mask_ratio, mask_state
from mmreuse.registry import HOOKS


@HOOKS.register_module()
class MaskThresholdHook(Hook):
    """Choose the masks of a :class:`~mmreuse.models.classifiers.FrozenClassifier`, and end training with them.

    After every epoch: if the share of weights that is masked out has reached ``threshold``, these masks are taken and
    training ends; otherwise those with the highest accuracy minus share of kept weights, so far. Masks, as bits, the
    hash of the weights they belong to, and the history lie in ``selection.pth`` at any time.

    Args:
        threshold: In (0, 1]; 1, as published, is never reached.
        patience: Epochs without a better state before training ends; None: never.
        metric: Accuracy on the validation data, in percent.

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
        backbone = model_of(runner, FrozenClassifier).backbone
        mask_parameters(backbone)
        require_validations(self, runner)
        self.path = Path(runner.work_dir) / 'selection.pth'
        self.selection = RunSelection(frozen_hash(backbone), [{}], [dict(best=None, history=[])])
        if runner.epoch > 0 and self.path.is_file():
            self.selection = RunSelection.read(self.path)
            if self.history[-1]['epoch'] < runner.epoch:
                runner.val_loop.run()
            runner.train_loop.stop_training = self._done

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Judge the masks."""
        history = self.history
        if history and history[-1]['epoch'] >= runner.epoch:
            return
        if self.metric not in metrics:
            raise ConfigError(f"MaskThresholdHook: the evaluator gives no '{self.metric}' but {sorted(metrics)}.")
        backbone = models_of(runner, FrozenClassifier)[-1].backbone  # as it was validated
        row = dict(epoch=runner.epoch, accuracy=float(metrics[self.metric]) / 100, ratio=mask_ratio(backbone))
        history.append(row)
        chosen = self.selection.chosen()
        if chosen is None or self._reached(row) or _spare(row) > _spare(chosen):
            masks = {name: mask.cpu() for name, mask in mask_state(backbone).items()}
            self.selection.kept[0] = dict(masks=masks, head={})
            self.selection.selections[0]['best'] = row
        runner.message_hub.update_scalar('val/ratio', row['ratio'])
        runner.logger.info(f'{in_words(row)}. Masks so far: {in_words(self.selection.chosen())}.')
        if is_main_process():
            self.selection.write(self.path)
        runner.train_loop.stop_training = self._done

    def after_train(self, runner: Runner) -> None:
        """Log the masks that were chosen."""
        chosen = self.selection.chosen()
        if self.threshold < 1 and not self._reached(chosen):
            runner.logger.warning(f'No epoch has masked out {self.threshold:.0%} of the weights. Train longer, or '
                                  'raise alpha or the learning rate of the masks.')
        for name, value in chosen.items():
            runner.message_hub.update_scalar(f'masks/{name}', value)

    @property
    def history(self) -> list[dict[str, float]]:
        """Return a row for each epoch."""
        return self.selection.selections[0]['history']

    @property
    def _done(self) -> bool:
        chosen = self.selection.chosen()
        waited = self.history[-1]['epoch'] - chosen['epoch']
        return self._reached(chosen) or self.patience is not None and waited >= self.patience

    def _reached(self, row: dict[str, float]) -> bool:
        return self.threshold < 1 and 1 - row['ratio'] >= self.threshold


def _spare(row: dict[str, float]) -> float:
    return row['accuracy'] - row['ratio']
