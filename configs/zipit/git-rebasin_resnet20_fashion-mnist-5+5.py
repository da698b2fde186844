# Matched by weights alone; only the batch norms are reset on data.
_base_ = ['./zipit_resnet20_fashion-mnist-5+5.py']

default_hooks = dict(merge=dict(matcher=dict(_delete_=True, type='weight_matching')))
