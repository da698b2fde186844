"""Sentences that say what a table shows; every word follows from its rows."""
import math
from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]


def best_rows(rows: Rows, metric: str, lowest: bool = False) -> list[Mapping[str, Any]]:
    """Return the rows that have the best value; several if it is shared, none where nobody has a finite one."""
    known = [row for row in rows if _known(row.get(metric))]
    if not known:
        return []
    best = (min if lowest else max)(row[metric] for row in known)
    return [row for row in known if row[metric] == best]


def name_best(rows: Rows, label: str, metric: str, *, lowest: bool = False, unit: str = ' %', digits: int = 1) -> str:
    """Say which row is best, and by how much: 'zip is best at 84.4 %, 2.7 above the next, permute.'

    Args:
        rows: Of a table.
        label: Column of names.
        metric: Column of what is compared.
        lowest: The smaller the better.
        unit: Behind the value.
        digits: Behind the point.
    """
    best = best_rows(rows, metric, lowest)
    if not best:
        return 'Nothing was measured.'
    value = best[0][metric]
    rest = best_rows([row for row in rows if row not in best], metric, lowest)
    if len(best) > 3:
        sentence = f'{len(best)} share the best value, {value:.{digits}f}{unit}'
    else:
        verb = 'is' if len(best) == 1 else 'are'
        sentence = f'{_listed([str(row[label]) for row in best])} {verb} best at {value:.{digits}f}{unit}'
    if rest:
        sentence += (f', {abs(value - rest[0][metric]):.{digits}f} {"below" if lowest else "above"} the next, '
                     f'{rest[0][label]}')
    return sentence + '.'


def compare(name: str, value: float, others: Mapping[str, float | None], *, samples: int | None = None,
            costs: Mapping[str, float] | None = None) -> str:
    """Say how an accuracy compares: 'zip reaches 84.4 %: 12.0 points above the average, 2.7 points below the ensemble.'

    Args:
        name: Of what is compared.
        value: Its accuracy in percent.
        others: By name, the accuracies of the others; None of those that were not measured.
        samples: Number of test images. Differences below two standard errors, of two independent samples of this
            size, are said to be within the error of the test.
        costs: By what they are of, as in 'the MACs of the ensemble': its cost over that of the other.
    """
    known = {other: each for other, each in others.items() if _known(each)}
    parts = [_difference(value, each, other, samples) for other, each in known.items()]
    sentence = f'{name} reaches {value:.1f} %'
    if parts:
        sentence += ': ' + _listed(parts)
    if costs:
        sentence += ', at ' + _listed([f'{ratio:.2g} times {what}' for what, ratio in costs.items()])
    return sentence + '.'


def verdict(value: float, baselines: Mapping[str, float | None], samples: int | None = None) -> str:
    """Say whether a method pays off: it is ahead of each baseline by more than the error of the test.

    Args:
        value: Accuracy in percent.
        baselines: Those of networks that cost no more.
        samples: As for :func:`compare`.
    """
    known = {name: each for name, each in baselines.items() if _known(each)}
    if not known:
        return 'There is no baseline to judge it by.'
    unsure = [name for name, each in known.items() if 0 < value - each < error_of(value, each, samples)]
    lost = [name for name, each in known.items() if value <= each]
    if lost:
        ahead = [name for name in known if name not in lost]
        rest = f'; it is ahead of {_listed(ahead)}' if ahead else ''
        verb = 'does' if len(lost) == 1 else 'do'
        return f'The method does not pay off here: {_listed(lost)} {verb} as well or better at no higher cost{rest}.'
    if unsure:
        return (f'Inconclusive: ahead of every baseline, but of {_listed(unsure)} only within the error of {samples} '
                'test images.')
    return f'The method pays off here: it is ahead of {_listed(list(known))}.'


def error_of(first: float, second: float, samples: int | None) -> float:
    """Return two standard errors of the difference of two accuracies, in points; 0 where the number is not known."""
    if not samples:
        return 0.
    return 2 * math.sqrt(sum(each * (100 - each) for each in (first, second)) / samples)


def _difference(value: float, other: float, name: str, samples: int | None) -> str:
    difference = value - other
    if round(difference, 1) == 0:
        return f'level with {name}'
    text = f'{abs(difference):.1f} points {"above" if difference > 0 else "below"} {name}'
    within = abs(difference) < error_of(value, other, samples)
    return text + (f' (within the error of {samples} test images)' if within else '')


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f'{", ".join(words[:-1])} and {words[-1]}'
