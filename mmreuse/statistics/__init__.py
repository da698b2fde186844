"""Statistics of feature spaces from one streaming pass over data."""
from mmreuse.statistics.bn import collect_bn, measured_norms, reset_bn
from mmreuse.statistics.cached_loader import CachedLoader
from mmreuse.statistics.collect import collect, collect_taps
from mmreuse.statistics.data import BATCH_SIZE, Data, batches, logits_of, repeatable
from mmreuse.statistics.grams import MIN_SAMPLES, Grams
from mmreuse.statistics.moments import (
    ChannelMomentAccumulator,
    ChannelMoments,
    CrossMomentAccumulator,
    CrossMoments,
    MomentAccumulator,
    SpaceMoments,
    least_squares,
)
from mmreuse.statistics.passes import (
    all_labelled,
    device_of,
    image_batches,
    images_of,
    inputs_for,
    labelled,
    labelled_batches,
)
from mmreuse.statistics.probe import fit_head, head_inputs, held_out_scores
from mmreuse.statistics.ridge import solve_ridge

__all__ = [
    'BATCH_SIZE', 'CachedLoader', 'ChannelMomentAccumulator', 'ChannelMoments', 'CrossMomentAccumulator',
    'CrossMoments', 'Data', 'Grams', 'MIN_SAMPLES', 'MomentAccumulator', 'SpaceMoments', 'all_labelled', 'batches',
    'collect', 'collect_bn', 'collect_taps', 'device_of', 'fit_head', 'head_inputs', 'held_out_scores', 'image_batches',
    'images_of', 'inputs_for', 'labelled', 'labelled_batches', 'least_squares', 'logits_of', 'measured_norms',
    'repeatable', 'reset_bn', 'solve_ridge',
]
