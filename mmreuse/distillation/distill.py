"""Distil a changed network from what it was made of: a short loop without labels."""
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mmreuse.distillation.objective import Objective, Scoring
from mmreuse.distillation.views import Goals, Known, Views
from mmreuse.errors import ConfigError, DataError
from mmreuse.statistics.data import BATCH_SIZE, LEAST_HELD_OUT
from mmreuse.utils.draws import Draws, warm_cosine
from mmreuse.utils.modes import evaluating, kept_modes
from mmreuse.utils.progress import progress
from mmreuse.utils.tables import Rows, Tabular


@dataclass
class DistillationReport(Tabular):
    """What distillation did.

    Attributes:
        steps: The state that was kept.
        agreement: By number of steps: share of the held-out images, in percent, on which the network predicts what
            its sources do.
        loss: Likewise, the mean since the last entry.
        images: How many it was trained on.
        seconds: Of training alone.
    """
    images: int
    steps: int = 0
    seconds: float = 0.
    agreement: dict[int, float] = field(default_factory=dict)
    loss: dict[int, float] = field(default_factory=dict)

    def rows(self) -> Rows:
        """Return one row for each time that the network was compared."""
        return [dict(steps=step, loss=self.loss.get(step), agreement=value) for step, value in self.agreement.items()]

    def notes(self) -> Sequence[str]:
        """Say which state was kept, and at what cost."""
        return [f'kept: {self.steps} steps; {self.images} images, {self.seconds:.1f} s']


def distill(network: nn.Module, objective: Objective, images: Tensor, held_out: Tensor, *, steps: int = 200,
            lr: float = 1e-3, weight_decay: float = 0.01, batch_size: int = BATCH_SIZE, every: int = 20,
            views: int = 1, amp: bool = False, seed: int = 0, goals: Goals | None = None,
            watch: Callable[[int], None] | None = None) -> DistillationReport:
    """Distil a network in place; no labels are used.

    AdamW, at a rate that rises for a tenth of the steps and falls along a cosine to nothing. The state that agrees with
    the sources on most held-out images is kept, of equal ones the earliest. However many steps there are, the sources
    are asked about every view of an image once.

    Args:
        network: Whose parameters are trained.
        objective: Says what it is taught.
        images: (N, ...), prepared; drawn anew in every pass.
        held_out: Others.
        steps: How many; 0 leaves the network as it is.
        lr: The highest rate.
        weight_decay: Of AdamW.
        batch_size: Images a step.
        every: How often the network is compared with its sources, in steps.
        views: Of each image, see :class:`~mmreuse.distillation.views.Views`; of many steps on few images they keep the
            network from learning the images by heart.
        amp: Compute in bfloat16 where that is safe.
        seed: Of the order of the images, and of their views.
        goals: What the sources say of the views of this seed, where that is known or asked for elsewhere.
        watch: Called with the number of steps whenever the network is compared, before the first one as well.

    Raises:
        ConfigError: A number is out of its range.
        DataError: There are too few images, or the loss is not finite.
    """
    _check(steps, every, batch_size, images, held_out)
    report, optimizer = DistillationReport(len(images)), torch.optim.AdamW(
        network.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, steps))
    order, best, losses = Draws(len(images), batch_size, seed), None, []
    shown = Views(images, views, seed)
    goals = goals or Known(objective.scoring.sources, shown)
    with kept_modes(network):
        for step in progress(range(steps + 1), 'distillation'):
            if step % every == 0 or step == steps:
                if losses:
                    report.loss[step], losses = sum(losses) / len(losses), []
                report.agreement[step] = agreement(network, objective.scoring, held_out)
                if watch is not None:
                    watch(step)
                if step == 0 or report.agreement[step] > report.agreement[report.steps]:
                    best = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
                    report.steps = step
            if step == steps:
                break
            started = time.perf_counter()
            network.train()
            places = order.draw()
            numbers = torch.randint(views, places.shape, generator=order.generator) if views > 1 else \
                torch.zeros_like(places)
            batch = shown.take(places, numbers)
            with torch.autocast(batch.device.type, torch.bfloat16, enabled=amp):
                loss = sum(objective.losses(batch, goals(places, numbers, batch)).values())
            losses.append(loss.item())
            if not torch.isfinite(loss):
                raise DataError(f'distill: the loss is {losses[-1]} in step {step + 1}. Lower lr, or check that the '
                                'network scores all classes that its sources do.')
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            report.seconds += time.perf_counter() - started
    network.load_state_dict(best)
    return report


@torch.no_grad()
def agreement(network: nn.Module, scoring: Scoring, images: Tensor) -> float:
    """Return the share of images, in percent, on which a network predicts what its sources do."""
    right = 0
    with evaluating(network):
        for batch in images.split(4 * BATCH_SIZE):
            right += int(scoring.agreement(batch, scoring.own(batch)).sum())
    return 100 * right / len(images)


def _check(steps: int, every: int, batch_size: int, images: Sequence, held_out: Sequence) -> None:
    if steps < 0 or every < 1 or batch_size < 2:
        raise ConfigError(f'distill: steps={steps} must be at least 0, every={every} at least 1 and '
                          f'batch_size={batch_size} at least 2.')
    if len(held_out) < LEAST_HELD_OUT or len(images) < 2:
        raise DataError(f'distill: {len(images)} images and {len(held_out)} held out are too few: at least 2 and '
                        f'{LEAST_HELD_OUT} are needed. Give some hundred.')
