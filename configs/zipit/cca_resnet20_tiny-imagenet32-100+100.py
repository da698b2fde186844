_base_ = ['./zipit_resnet20_tiny-imagenet32-100+100.py']

default_hooks = dict(merge=dict(matcher=dict(_delete_=True, type='cca', everywhere=True)))
