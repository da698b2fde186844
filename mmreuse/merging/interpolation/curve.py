"""Networks on the straight line, or simplex, between end models: how good they are, and renormalized."""
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from statistics import mean
from typing import Any

from torch import nn

from mmreuse.errors import ConfigError
from mmreuse.merging.interpolation.interpolate import check_same_structure, interpolate
from mmreuse.registry import Method
from mmreuse.renormalization import (
    Choice,
    MatchedMoments,
    Methods,
    Statistics,
    apply_renormalizers,
    check_fit,
    check_weights,
    find_methods,
    matched,
    measure_ends,
    measure_together,
)
from mmreuse.statistics import CachedLoader
from mmreuse.statistics.evaluate import evaluate_together

Weights = tuple[float, ...]


def points(number: int, ends: int = 2) -> list[Weights]:
    """Return the weights of evenly spaced networks between end models.

    Args:
        number: On every edge, the ends included.
        ends: Number of end models.

    Returns:
        list[tuple[float, ...]]: For two ends (1 - alpha, alpha) with alpha from 0 to 1; for more of them all points
        of that spacing in the simplex, from the first end to the last.

    Raises:
        ConfigError: There are fewer than two points or ends.
    """
    if number < 2 or ends < 2:
        raise ConfigError(f'{number} points between {ends} ends: a curve has at least two of each. Give more.')
    steps = number - 1
    # Where ends - 1 bars stand among the steps says how many steps each end gets.
    bars = [(-1, *chosen, steps + ends - 1) for chosen in combinations(range(steps + ends - 1), ends - 1)]
    return [tuple((right - left - 1) / steps for left, right in zip(row, row[1:], strict=False))
            for row in reversed(bars)]


def curve(
    ends: Sequence[nn.Module],
    weights: Sequence[Sequence[float]],
    loader: Iterable | None,
    test: Iterable | Callable[[nn.Module], Mapping[str, float]],
    *,
    renormalizers: Mapping[str, Methods] | None = None,
    samples: int | None = None,
    targets: Sequence[Statistics] | None = None,
    moments: Mapping[str, MatchedMoments] | None = None,
    validation: Iterable | None = None,
    bf16: bool = False,
) -> list[dict[str, Any]]:
    """Measure networks between end models, as they are and renormalized.

    Images are loaded, augmented and prepared once; every network is renormalized on the same ones, and all networks of
    a renormalizer are tested in one pass. Statistics of the ends are taken once for all points and renormalizers. The
    ends themselves are tested as they are, as published.

    What chooses on validation data (``auto``, ``bias_removal``) chooses once, at the midpoint; all points get that.

    Args:
        ends: Aligned end models.
        weights: Of the ends at each point, as :func:`points` gives them.
        loader: Batches of images for the renormalizers; None where there are none.
        test: Labelled batches; or a function from a network to its metrics.
        renormalizers: Names to renormalizers, or lists of them to be run one after the other (none: the network as it
            is); None for ``{'none': []}``.
        samples: How many images statistics are taken of, the ends' and those of renormalizers that do not say; None
            for all of the loader.
        targets: Statistics of the ends, if measured already (:meth:`Aligned.permuted`).
        moments: Of matched channels, likewise (:meth:`Aligned.matched`).
        validation: Labelled batches to choose on, never of the test set.
        bf16: Test under autocast to bfloat16.

    Returns:
        list[dict]: For each renormalizer and point ``renormalizer``, ``weights``, the metrics, and ``choice`` where
        something was chosen.

    Raises:
        SpaceError: The ends differ in structure, or a renormalizer does not fit them.
        ConfigError: A weight, renormalizer or option does not exist or fit, or what one needs was not given.
        DataError: A loader is empty or too short, or a statistic is not finite.
    """
    check_same_structure(ends)
    methods = {name: find_methods(each) for name, each in (renormalizers or {'none': []}).items()}
    _check(ends, weights, loader, validation, methods)
    images = CachedLoader(loader, ends[0])
    tested = test if callable(test) else CachedLoader(test, ends[0], labelled=True)
    given = dict(samples=samples, ends=ends, targets=targets, moments=moments,
                 validation=None if validation is None else CachedLoader(validation, ends[0], labelled=True))
    methods = {name: [_informed(method, ends, images, samples) for method in each]
               for name, each in methods.items()}
    needs = {key for each in methods.values() for method in each if not _names_layers(method) for key in method.needs}
    if targets is None and 'targets' in needs:
        given['targets'] = measure_ends(ends, images, samples=samples)
    if moments is None and 'moments' in needs:
        given['moments'] = _moments(ends, images, samples=samples)
    rows, known = [], {}
    for name, chosen in methods.items():
        chosen, choice = _settled(chosen, ends, images, given)
        fresh = [tuple(each) for each in weights if tuple(each) not in known]
        models = [_network(ends, each, chosen, images, given) for each in fresh]
        found = dict(zip(fresh, _measured(models, tested, bf16), strict=True))
        known |= {each: found[each] for each in fresh if is_end(each)}
        rows += [dict(renormalizer=name, weights=list(each), **({} if choice is None else {'choice': choice}),
                      **(found | known)[tuple(each)]) for each in weights]
    return rows


def is_end(weights: Sequence[float]) -> bool:
    """Return whether these are the weights of one of the end models."""
    return sorted(weights) == [0] * (len(weights) - 1) + [1]


def barrier(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Barriers of a curve against its ends: ``max(loss) - mean(loss of the ends)``, ``mean(accuracy of the ends) -
    min(accuracy)`` (Qu and Horvath, *Vanishing Feature*, 2025; percent).

    Args:
        rows: One renormalizer's rows of :func:`curve`, all ends among them.

    Returns:
        dict[str, float | None]: ``accuracy/top1`` and ``loss``; None where a loss is not finite.

    Raises:
        ConfigError: An end is missing.
    """
    at_ends = {tuple(row['weights']): row for row in rows if is_end(row['weights'])}
    if not rows or len(at_ends) < len(rows[0]['weights']):
        raise ConfigError(f'a barrier is measured from all ends, and the curve has {len(at_ends)} of them. Measure the '
                          'points with weight 1 as well.')
    key = 'accuracy/top1'
    found = {key: mean(row[key] for row in at_ends.values()) - min(row[key] for row in rows)}
    finite = all(row['loss'] is not None for row in rows)
    found['loss'] = (max(row['loss'] for row in rows) - mean(row['loss'] for row in at_ends.values())
                     if finite else None)
    return found


def _check(ends: Sequence[nn.Module], weights: Sequence[Sequence[float]], loader: Iterable | None,
           validation: Iterable | None, methods: Mapping[str, Sequence[Method]]) -> None:
    """Raise what can be known before anything runs."""
    for name, own in methods.items():
        if own and loader is None:
            raise ConfigError(f"renormalizer '{name}' needs images: give a loader.")
        for method in own:
            check_fit(method, ends[0])
            if method.chooses and validation is None:
                raise ConfigError(f"renormalizer '{name}' chooses on labelled data: give `validation`, batches that "
                                  'are not of the test set.')
            if 'weights' in method.needs:
                for each in weights:
                    check_weights(each, len(ends))


def _names_layers(method: Method) -> dict[str, Any]:
    """Return the layers or blocks that a config names."""
    return {key: value for key, value in method.options.items() if key in ('layers', 'blocks')}


def _informed(method: Method, ends: Sequence[nn.Module], images: Iterable, samples: int | None) -> Method:
    """Tell a renormalizer of layers of its own what the ends give there, once for all points."""
    own = _names_layers(method)
    if not own:
        return method
    samples = method.options.get('samples', samples)
    if 'targets' in method.needs:
        return method.bind(targets=measure_ends(ends, images, samples=samples, **own))
    if 'moments' in method.needs:
        return method.bind(moments=_moments(ends, images, samples=samples, **own))
    return method


def _moments(ends: Sequence[nn.Module], images: Iterable, **options: Any) -> dict[str, MatchedMoments]:
    return {name: matched(each) for name, each in measure_together(ends, images, **options).items()}


def _settled(methods: Sequence[Method], ends: Sequence[nn.Module], images: Iterable,
             given: Mapping[str, Any]) -> tuple[list[Method], str | None]:
    """Let what chooses do so at the midpoint; hand back what it chose, and how that is called."""
    if not any(method.chooses for method in methods):
        return list(methods), None
    equal = [1 / len(ends)] * len(ends)
    results = apply_renormalizers(interpolate(ends, equal), images, methods, **given, weights=equal)
    settled, names = [], []
    for method, result in zip(methods, results, strict=True):
        if isinstance(result, Choice):
            settled += result.methods
            names.append(result.name)
        elif method.chooses and method.choice is not None:
            settled.append(method.bind(**{method.choice: result}))
            names.append(f'{method.choice} {result}')
        else:
            settled.append(method)
    return settled, ', '.join(names) or None


def _network(ends: Sequence[nn.Module], weights: Weights, methods: Sequence[Method], images: Iterable,
             given: Mapping[str, Any]) -> nn.Module:
    network = interpolate(ends, weights)
    if not is_end(weights):
        apply_renormalizers(network, images, methods, **given, weights=list(weights))
    return network


def _measured(models: Sequence[nn.Module], test: Iterable | Callable, bf16: bool) -> list[dict[str, float]]:
    if callable(test):
        return [dict(test(model)) for model in models]
    return evaluate_together(models, test, bf16=bf16) if models else []
