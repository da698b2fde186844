"""Try several renormalizations and keep the best."""
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mmreuse.errors import SpaceError
from mmreuse.graph import adopt, copy_model
from mmreuse.registry import RENORMALIZERS, Method
from mmreuse.renormalization.apply import Methods, apply_renormalizers, find_methods
from mmreuse.renormalization.measure import measure_ends
from mmreuse.renormalization.score import Score, scorer
from mmreuse.renormalization.target_layers import Layers
from mmreuse.renormalization.target_statistics import Statistics
from mmreuse.utils.configs.methods import find_method

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """Candidates that :func:`auto` tried."""
    name: str  # of the best
    scores: dict[str, float]
    unfit: dict[str, str]  # candidates that the network does not allow, and why
    methods: tuple[Method, ...]  # the best, to be run on other networks; none where the network is best as it is


@RENORMALIZERS.register_module(
    name='auto', needs=('samples', 'ends', 'sources', 'targets', 'weights', 'layers', 'validation', 'score'),
    chooses=True)
def auto(
    model: nn.Module,
    loader: Iterable,
    *,
    candidates: Sequence[Methods] | None = None,
    samples: int | None = None,
    ends: Sequence[nn.Module] | None = None,
    sources: Sequence[Any] | None = None,
    targets: Sequence[Statistics] | None = None,
    weights: Sequence[float] | None = None,
    layers: Layers | None = None,
    validation: Iterable | None = None,
    score: Score | None = None,
) -> Choice:
    """Try renormalizers on copies of a network, score each, and make the network the best of them.

    The network as it is takes part under the name ``none`` and wins ties.

    Args:
        model: Changed in place; parameters stay the same objects.
        loader: Batches of images for statistics.
        candidates: Names or configs, or lists of them to be run one after the other. None: those of
            ``reset``, ``repair``, ``rescale``, ``bias_calibration`` and ``calibrate`` whose targets are known.
        samples: How many samples each may use.
        ends: Aligned end models; measured once for all candidates.
        sources: What the network was made of, for candidates that refit it to that.
        targets: Their statistics, if measured already.
        weights: Of the ends.
        layers: Those that may change.
        validation: Labelled batches to choose by, not of the test set.
        score: In place of accuracy on ``validation``; larger is better.

    Returns:
        Choice: Name of the best, and all scores.

    Raises:
        ConfigError: There is nothing to choose by, or there is no such candidate.
        DataError: As the candidates raise it. The network is then unchanged.
    """
    judge = scorer(validation, score)
    if candidates is None:
        measured = targets is not None or ends is not None
        candidates = [name for name, served in (
            ('reset', True), ('repair', measured), ('rescale', measured),
            ('bias_calibration', ends is not None or weights is not None), ('calibrate', bool(sources))) if served]
    methods = {label_of(found): found for found in map(find_methods, candidates)}
    if targets is None and ends is not None:
        targets = measure_ends(ends, loader, samples=samples)
    given = dict(samples=samples, ends=ends, sources=sources, targets=targets, weights=weights, layers=layers,
                 validation=validation, score=score)
    name, best, scores, unfit = 'none', None, {'none': judge(model)}, {}
    for label, functions in methods.items():
        twin = copy_model(model)
        try:
            apply_renormalizers(twin, loader, functions, **given)
        except SpaceError as error:
            unfit[label] = str(error)
            continue
        value = judge(twin)
        scores[label] = value if math.isfinite(value) else -math.inf
        if scores[label] > scores[name]:
            name, best = label, twin
    if best is not None:
        adopt(model, best)
    listed = [f'{label} {value:.4f}' for label, value in scores.items()] + [f'{label} does not fit' for label in unfit]
    logger.info("renormalizer '%s' scores best: %s", name, ', '.join(listed))
    return Choice(name, scores, unfit, tuple(methods.get(name, ())))


def calibrates(methods: Methods) -> bool:
    """Return whether renormalizers, or one that :func:`auto` may choose, calibrate.

    Args:
        methods: Name, config or function, or several.
    """
    if isinstance(methods, list | tuple):
        return any(map(calibrates, methods))
    method = find_method(RENORMALIZERS, methods)
    if method.name != 'auto':
        return method.name == 'calibrate'
    candidates = method.options.get('candidates')
    return candidates is None or calibrates(candidates)


def label_of(methods: Sequence[Method]) -> str:
    """Return e.g. ``repair(order=sequential)`` or ``repair + reset``."""
    options = [', '.join(f'{key}={value}' for key, value in method.options.items()) for method in methods]
    return ' + '.join(method.name + (f'({own})' if own else '') for method, own in zip(methods, options, strict=True))
