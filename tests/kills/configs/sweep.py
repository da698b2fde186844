# The table of merges: two matchers, two stops.
_base_ = ['./merge.py']

runner_type = 'MergingRunner'
merging = dict(matchers=['identity', 'permute'], stops=['none', 'backbone.layer1'])
