_base_ = ['./zipit_resnet20_fashion-mnist-5+5.py']

default_hooks = dict(merge=dict(matcher=dict(_delete_=True, type='cca', everywhere=True)))
