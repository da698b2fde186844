_base_ = ['./zipit_resnet20-2x_cifar10-jpeg-5+5.py']

default_hooks = dict(merge=dict(matcher=dict(_delete_=True, type='cca', everywhere=True)))
