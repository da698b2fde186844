"""Numbers of schedules and recipes that make no sense are refused before anything is trained."""
import pytest
from torch import nn

from mmreuse.engine.hooks import (
    GateBudgetHook,
    MaskBudgetHook,
    MaskInitHook,
    MaskScheduleHook,
    MaskThresholdHook,
    ModuleSelectionHook,
    PruneHook,
)
from mmreuse.errors import ConfigError
from mmreuse.models import ModularClassifier

NAN = float('nan')


def modular(**options):
    return ModularClassifier(dict(model=nn.Sequential(nn.Linear(4, 3))), 3, **options)


@pytest.mark.parametrize('make, options', [
    (MaskBudgetHook, dict(ratio=.1)), (GateBudgetHook, dict(ratio=.1)), (MaskInitHook, {}), (MaskScheduleHook, {}),
    (MaskThresholdHook, {}), (ModuleSelectionHook, {}), (PruneHook, dict(sparsity=.5, end=4)), (modular, {})])
def test_what_makes_sense_is_taken(make, options):
    make(**options)


@pytest.mark.parametrize('make, options', [
    *[(hook, dict(ratio=.1) | wrong) for hook in (MaskBudgetHook, GateBudgetHook) for wrong in (
        dict(end=5), dict(end=-.1), dict(end=NAN), dict(ratio=0), dict(ratio=1.5), dict(ratio=NAN), dict(interval=0))],
    (MaskInitHook, dict(samples=0)), (MaskScheduleHook, dict(period=1)),
    *[(MaskThresholdHook, wrong) for wrong in (dict(threshold=0), dict(threshold=60), dict(threshold=NAN),
                                               dict(patience=0))],
    *[(ModuleSelectionHook, wrong) for wrong in (dict(reference=93.5), dict(reference=NAN), dict(max_ratio=15),
                                                 dict(patience=0), dict(check_interval=0))],
    *[(PruneHook, dict(sparsity=.5, end=4) | wrong) for wrong in (
        dict(sparsity=1), dict(sparsity=NAN), dict(begin=-1), dict(begin=5), dict(interval=0), dict(initial=.6),
        dict(initial=NAN), dict(power=0), dict(power=-3), dict(power=NAN))],
    *[(modular, dict(alpha=wrong)) for wrong in (-1, NAN, float('inf'))]])
def test_what_makes_no_sense_is_refused(make, options):
    with pytest.raises(ConfigError):
        make(**options)
