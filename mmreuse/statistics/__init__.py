"""Statistics of feature spaces from one streaming pass over data."""
from mmreuse.statistics.bn import collect_bn, reset_bn
from mmreuse.statistics.collect import collect, collect_taps
from mmreuse.statistics.moments import (
    ChannelMomentAccumulator,
    ChannelMoments,
    CrossMomentAccumulator,
    CrossMoments,
    MomentAccumulator,
    SpaceMoments,
    least_squares,
)

__all__ = [
    'ChannelMomentAccumulator',
    'ChannelMoments',
    'CrossMomentAccumulator',
    'CrossMoments',
    'MomentAccumulator',
    'SpaceMoments',
    'collect',
    'collect_bn',
    'collect_taps',
    'least_squares',
    'reset_bn',
]
