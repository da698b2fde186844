"""Several merges side by side: what a residual connection, a matcher or a renormalizer saves."""
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from mmreuse.diagnostics.vanishing import feature_magnitudes, normalised
from mmreuse.errors import ConfigError
from mmreuse.renormalization import accuracy

#: A merged network and its end models.
Case = tuple[nn.Module, Sequence[nn.Module]]


@dataclass(frozen=True)
class MergeComparison:
    """Measurements of a merged network beside its ends."""

    accuracy: float        # of the merged network, 0..1
    ends: tuple[float, ...]  # accuracies of the end models
    layers: tuple[str, ...]
    induced: Tensor  # (L,), size of g over the mean of the ends
    offset: Tensor   # (L,), size of h likewise


def compare_merges(
    cases: Mapping[str, Case],
    loader: Iterable,
    *,
    samples: int | None = None,
) -> dict[str, MergeComparison]:
    """Measure accuracy and vanishing of several merges, which may be of different architectures.

    With networks that have residual connections and networks that have none, merged alike, it shows what the
    connections save: the identity path does not shrink when weights are averaged.

    Args:
        cases: By label, a merged network and its end models.
        loader: Labelled batches, see :func:`mmreuse.renormalization.score.accuracy`.
        samples: How many samples the magnitudes use; None for all. Accuracies use all.

    Raises:
        ConfigError: There is nothing to compare, or a merge comes without its ends.
        SpaceError: Ends have other layers than what was merged of them.
        DataError: The loader is empty, too short or without labels, or a feature is not finite.
    """
    empty = [label for label, (_, ends) in cases.items() if not ends]
    if not cases or empty:
        raise ConfigError(f"'{empty[0]}' comes without end models." if empty else 'there are no merges to compare.')
    known: dict[int, float] = {}

    def score(model: nn.Module) -> float:
        if id(model) not in known:  # cases share end models
            known[id(model)] = accuracy(model, loader)
        return known[id(model)]

    found = {}
    for label, (merged, ends) in cases.items():
        sizes = feature_magnitudes([merged, *ends], loader, samples=samples)
        found[label] = MergeComparison(
            score(merged), tuple(score(end) for end in ends), sizes.layers,
            normalised(sizes.induced[0], sizes.induced[1:]), normalised(sizes.offset[0], sizes.offset[1:]))
    return found
