"""Hooks of runs that learn modules: where they start, what is trained when, how sparse they get."""
import math
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from mmreuse.engine.unwrap_model import model_of, models_of
from mmreuse.errors import ConfigError
from mmreuse.models.classifiers import FrozenClassifier, ModularClassifier
from mmreuse.modularization import (
    fit_head,
    hold_budget,
    mask_state,
    materialize,
    rank_masks,
    select_classes,
)
from mmreuse.modularization.masks.budget import check_share, closing_loss, hold_gates, rank_gates, saliency
from mmreuse.pruning import polynomial
from mmreuse.registry import HOOKS
from mmreuse.utils.names import refuse_other

_HEADS = ('fit', 'select', None)

MaskedClassifier = ModularClassifier | FrozenClassifier


def target_classes(model: ModularClassifier, loader: DataLoader) -> list[list[int]]:
    """Return the classes that each of a loader's problems is about.

    Raises:
        ConfigError: Its data set is no target problem, or not one for this model.
    """
    metainfo = getattr(loader.dataset, 'metainfo', {})
    infos = [metainfo] if model.problems is None else metainfo.get('problems', [])
    if len(infos) != (model.problems or 1) or any('target_classes' not in info for info in infos):
        wanted = 'BinaryProblem or ClassProblem' if model.problems is None else f'a ProblemSet of {model.problems}'
        raise ConfigError(f'{type(loader.dataset).__name__} does not fit the model: wrap the data set in {wanted}.')
    head = model.module_head.of(0).linear
    for info in infos:
        if len(info['classes']) != head.out_features or max(info['target_classes']) >= head.in_features:
            raise ConfigError(f"the problem has the labels {info['classes']}, of the classes {info['target_classes']}; "
                              f'the model has out_classes={head.out_features} of in_classes={head.in_features}.')
    return [info['target_classes'] for info in infos]


@torch.no_grad()
def original_logits(model: ModularClassifier, batches: Iterable[dict]) -> list[tuple[Tensor, Tensor]]:
    """Return logits (N, in_classes) of the base without masks, and labels (N,), of each problem.

    Args:
        model: Its masks do not matter.
        batches: Prepared.
    """
    everything = {name: torch.ones_like(mask) for name, mask in mask_state(model.base).items()}
    plain = materialize(model.base, everything).eval()
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(model.problems or 1)]
    for batch in batches:
        for sample, logits in zip(batch['data_samples'], plain(batch['inputs']), strict=True):
            found[sample.get('problem', 0)].append((logits, sample.gt_label[0]))
    return [tuple(map(torch.stack, zip(*pairs, strict=True))) for pairs in found]


@HOOKS.register_module()
class MaskInitHook(Hook):
    """Starts the head, and ranks weights by what the loss says of them, before training.

    Args:
        head: ``'fit'``: the head that is best for the whole network on the training data; ``'select'``: from the target
            classes, see :func:`mmreuse.modularization.select_classes`; None: PyTorch's random one, as published, or,
            of a :class:`~mmreuse.models.classifiers.FrozenClassifier`, that of :class:`TransferInitHook`.
        saliency: Whether masks start from the ranks of :func:`mmreuse.modularization.mask_saliency`, and gates from
            those of saliency, or of what closing a block of them does to the loss, for its cost; otherwise at 1.
        samples: Of the training data, for both; of each problem.

    Raises:
        ConfigError: There is no such head, there are no samples, or the model has no masks.
    """

    def __init__(self, head: str | None = 'fit', saliency: bool = True, samples: int = 2048) -> None:
        refuse_other('MaskInitHook: head', head, _HEADS)
        if samples < 1:
            raise ConfigError(f'MaskInitHook: samples={samples}: at least one is needed.')
        self.head = head
        self.saliency = saliency
        self.samples = samples

    def before_train(self, runner: Runner) -> None:
        """Set masks and head."""
        model = model_of(runner, ModularClassifier, FrozenClassifier)
        if runner.iter > 0:
            return
        if self.head is not None or isinstance(model, ModularClassifier):
            self._start_head(model_of(runner, ModularClassifier), runner)
        if self.saliency:
            self._start_masks(model, runner.train_dataloader)
        for parameter in model.parameters():
            if parameter.requires_grad:
                broadcast(parameter.data)

    def _start_head(self, model: ModularClassifier, runner: Runner) -> None:
        loader = runner.train_dataloader
        classes = target_classes(model, loader)
        if self.head is None:
            return
        for number, own in enumerate(classes):
            select_classes(model.module_head.of(number), own)
        if self.head == 'fit':
            for number, (logits, labels) in enumerate(original_logits(model, self._batches(model, loader))):
                loss = fit_head(model.module_head.of(number), logits, labels)
                runner.logger.info(f'Head of {classes[number]}: cross-entropy {loss:.4f} with the whole network.')

    def _start_masks(self, model: MaskedClassifier, loader: DataLoader) -> None:
        model.train()
        batches, loss = list(self._batches(model, loader)), partial(task_loss, model)
        found = saliency(model.switches(), loss, batches)
        rank_masks(model.masked_net, found)
        if model.gates is not None:
            if model.gates.step > 1:
                found |= closing_loss(model.gates, found, loss, batches)
            rank_gates(model.gates, found, model.rates)

    def _batches(self, model: MaskedClassifier, loader: DataLoader) -> Iterator[dict]:
        return prepared_batches(model, loader, self.samples * (model.problems or 1), training=True)


def prepared_batches(model: MaskedClassifier, loader: DataLoader, samples: float = math.inf,
                     training: bool = False) -> Iterator[dict]:
    """Batches of at least so many samples in all, as a model's preprocessor prepares them."""
    seen = 0
    for batch in loader:
        yield model.data_preprocessor(batch, training=training)
        seen += len(batch['inputs'])
        if seen >= samples:
            return


def task_loss(model: MaskedClassifier, batch: dict) -> Tensor:
    """Return the loss without the sparsity term, summed over problems."""
    losses = model(**batch, mode='loss')
    return sum(loss for name, loss in losses.items() if name != 'loss_sparsity')


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
        model_of(runner, ModularClassifier).train_only_head(runner.epoch % self.period == 0)


@HOOKS.register_module()
class MaskBudgetHook(Hook):
    """Holds what is kept to a budget that shrinks from everything to ``ratio``, in place of a sparsity term.

    Averages of the masks (``EMAHook``) are held to it as well: of two states that keep few weights the average may keep
    many.

    Args:
        ratio: Share to keep in the end, in (0, 1]: of the weights, or of the ``cost`` that the model counts in. What
            gates have closed is not kept.
        end: Share of the training after which the budget stays as it is, in [0, 1].
        interval: Iterations between two corrections; there is one at the end of every epoch as well.

    Raises:
        ConfigError: A number is out of range.
    """

    # Behind the update of averages.
    priority = 'BELOW_NORMAL'

    def __init__(self, ratio: float, end: float = 0.5, interval: int = 10) -> None:
        check_share(ratio)
        if not 0 <= end <= 1 or interval < 1:
            raise ConfigError(f'{type(self).__name__}: end={end} is not in [0, 1], or interval={interval} is below 1.')
        self.ratio = ratio
        self.end = end
        self.interval = interval

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Correct the masks."""
        if self.every_n_train_iters(runner, self.interval) or self.end_of_epoch(runner.train_dataloader, batch_idx):
            sparsity = polynomial(runner.iter + 1, 0, int(self.end * runner.max_iters), 1 - self.ratio)
            for model in self.models(runner):
                self.hold(model, 1 - sparsity)

    def models(self, runner: Runner) -> list[MaskedClassifier]:
        """Return the models that are held to the budget."""
        return models_of(runner, ModularClassifier, FrozenClassifier)

    def hold(self, model: MaskedClassifier, share: float) -> None:
        """Hold masks to a share."""
        used = None
        if model.gates is not None:
            used = {f'{name}_mask': kept for name, kept in model.gates.kept().items()}
        hold_budget(model.masked_net, share, model.mask_costs(), used)

    def reached(self, runner: Runner) -> bool:
        """Return whether the budget has shrunk to what it is to be."""
        return runner.iter >= int(self.end * runner.max_iters)


@HOOKS.register_module()
class GateBudgetHook(MaskBudgetHook):
    """Holds what gates leave to a budget, likewise, and freezes gates once it is reached.

    From then on masks and head adapt to the structure that is left.

    Args:
        ratio: Share to keep in the end of the ``cost`` that the model counts in, in (0, 1].
        end: As for masks.
        interval: As for masks. Between two corrections whole channels come back, to which masks should not adapt.

    Raises:
        ConfigError: A number is out of range, or the model has no gates.
    """

    def __init__(self, ratio: float, end: float = 0.5, interval: int = 1) -> None:
        super().__init__(ratio, end, interval)

    def before_train(self, runner: Runner) -> None:
        """Refuse a model without gates."""
        if model_of(runner, ModularClassifier).gates is None:
            raise ConfigError('GateBudgetHook: the model has no gates. Set model.gates = 1 and model.input_size.')

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Hold the gates still if it is time."""
        if self.reached(runner):
            model_of(runner, ModularClassifier).gates.requires_grad_(False)

    def models(self, runner: Runner) -> list[MaskedClassifier]:
        """Return the models whose gates still change."""
        own, *averages = super().models(runner)
        return [own, *averages] if next(own.gates.parameters()).requires_grad else averages

    def hold(self, model: ModularClassifier, share: float) -> None:
        """Hold gates to a share."""
        hold_gates(model.gates, share, model.rates)
