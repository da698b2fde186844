# The table of merges: every matcher and stop.
_base_ = ['./merge.py']

runner_type = 'MergingRunner'
merging = dict(matchers=['identity', 'permute', 'zip'], stops=['none', 'backbone.layer1'], sources=True)
