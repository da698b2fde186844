"""Refit the last layer to what networks of different tasks say together."""
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from mmengine.dist import all_gather_object
from torch import Tensor, nn
from torch.nn import functional as F

from mmreuse.errors import ConfigError, DataError
from mmreuse.registry import RENORMALIZERS
from mmreuse.statistics import image_batches
from mmreuse.statistics.data import LEAST_HELD_OUT
from mmreuse.utils.hooks import linear_calls
from mmreuse.utils.minimise import minimised
from mmreuse.utils.modes import evaluating
from mmreuse.utils.tables import Rows, Tabular

#: What is tried for a change of the weights, in units of the features' mean variance; an infinite one is no change.
PENALTIES = (0.1, 1., 10., 100., 1000., float('inf'))


@dataclass(frozen=True)
class Scores:
    """How images become scores of all classes, and how those of a network should follow those of its sources.

    Attributes:
        own: From images to scores (B, K, C) by the network, of K outputs.
        sources: From images to scores (B, N, C) by what it was made of.
        loss: From both to a number that is to be small.
    """
    own: Callable[[Tensor], Tensor]
    sources: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]


@dataclass
class HeadReport(Tabular):
    """What refitting the last layer did.

    Attributes:
        images: How many it was fitted on.
        penalty: The one that was taken.
        loss: Mean on held-out images, by penalty.
    """
    images: int
    penalty: float = float('inf')
    loss: dict[float, float] = field(default_factory=dict)

    def rows(self) -> Rows:
        """Return one row for each penalty."""
        return [dict(penalty=penalty, held_out_loss=loss) for penalty, loss in self.loss.items()]

    def notes(self) -> Sequence[str]:
        """Say which penalty was taken."""
        return [f'taken: penalty {self.penalty:g}; {self.images} images']


@RENORMALIZERS.register_module(name='head', needs=('samples', 'scores'))
def refit_head(network: nn.Module, loader: Iterable, *, samples: int | None = None,
               scores: Scores | None = None) -> HeadReport:
    """Refit the last linear layer to its sources' scores of all classes, in place; no labels are used.

    Calibration gives each image the output of one source, which was taught to tell its own classes apart and nothing
    about the others: how classes of different tasks compare is left to luck. Here the last layer minimises the sources'
    loss on all classes, plus a penalty times the squared change of its weights. What it reads is computed once, so that
    L-BFGS takes a second. The last fifth of the images chooses the penalty; then all are used.

    Args:
        network: Its one output is that of its last linear layer.
        loader: Batches of images.
        samples: How many images to use; None for all.
        scores: Of the network and its sources.

    Raises:
        ConfigError: It is not known how classes are scored, or the output is not that of the last linear layer.
        DataError: There are too few images, or a feature is not finite. In all cases the network is unchanged.
    """
    if scores is None:
        raise ConfigError("renormalizer 'head' needs to know how outputs become scores of classes, which only what "
                          'merges a MergedClassifier does: name it there.')
    layer, inputs, goals = _measured(network, loader, samples, scores)
    if len(inputs) < 5 * LEAST_HELD_OUT:
        raise DataError(f"renormalizer 'head': {len(inputs)} images are too few, {5 * LEAST_HELD_OUT} are needed.")
    start, unit, kept = [each.detach() for each in layer.parameters()], inputs.var(0).mean(), len(inputs) * 4 // 5
    report = HeadReport(len(inputs))

    def fit(part: slice, penalty: float) -> list[Tensor]:
        def loss(*weights: Tensor) -> Tensor:
            change = (weights[0] - start[0]).square().sum() / len(start[0])
            return missed(weights, part) + penalty * unit * change

        return start if penalty == float('inf') else minimised(loss, start)

    def missed(weights: Sequence[Tensor], part: slice) -> Tensor:
        with _run_as(network, lambda features: F.linear(features, *weights)):
            return scores.loss(scores.own(inputs[part]), goals[part])

    for penalty in PENALTIES:
        found = fit(slice(kept), penalty)
        with torch.no_grad():
            report.loss[penalty] = missed(found, slice(kept, None)).nan_to_num(float('inf')).item()
    report.penalty = min(report.loss, key=report.loss.get)
    with torch.no_grad():
        for own, found in zip(layer.parameters(), fit(slice(None), report.penalty), strict=True):
            own.copy_(found)
    return report


@torch.no_grad()
def _measured(network: nn.Module, loader: Iterable, samples: int | None,
              scores: Scores) -> tuple[nn.Linear, Tensor, Tensor]:
    """Return the last linear layer, what it reads (S, F), and the sources' scores (S, N, C), over all processes."""
    read, goals, layer = [], [], None
    with evaluating(network), linear_calls(network, 1) as calls:
        for (images,) in image_batches(loader, [network], samples, 'images'):
            output = network(images)
            if not calls or calls[0][2] is not output:
                raise ConfigError("renormalizer 'head': the network's one output is not what its last linear layer "
                                  'gives. Leave it out.')
            layer, (inputs, *_), _ = calls[0]
            read.append(inputs)
            goals.append(scores.sources(images))
    gathered = all_gather_object((torch.cat(read).cpu(), torch.cat(goals).cpu()))
    inputs, goal = (torch.cat(parts).to(read[0].device) for parts in zip(*gathered, strict=True))
    if not inputs.isfinite().all():
        raise DataError("renormalizer 'head': what the last layer reads is not finite.")
    return layer, inputs, goal


@contextmanager
def _run_as(network: nn.Module, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let a network compute a function in the block."""
    network.forward = function
    try:
        yield
    finally:
        del network.forward
