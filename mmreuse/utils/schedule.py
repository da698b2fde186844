"""Schedules of growing sparsity for a network in training."""


def polynomial(step: int, begin: int, end: int, final: float, initial: float = 0., power: float = 3.) -> float:
    """Sparsity at a step: ``final - (final - initial) * (1 - progress) ** power``.

    Zhu and Gupta, *To prune, or not to prune*, 2017, equation 1, with ``power=3``: much goes early, when
    there is much to spare.

    Args:
        step: The step that is asked about.
        begin: At or before it the sparsity is ``initial``, unless it is ``end`` as well.
        end: At it and afterwards the sparsity is ``final``.
        final: Sparsity that is reached.
        initial: Sparsity at the beginning.
        power: 1: linear.
    """
    if step >= end:
        return final
    progress = max(0, step - begin) / (end - begin)
    return final - (final - initial) * (1 - progress) ** power
