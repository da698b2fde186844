_base_ = ['./zipit_resnet50_fine-grained.py']

default_hooks = dict(merge=dict(matcher=dict(_delete_=True, type='permute')))
