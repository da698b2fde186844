# What reassembled nets are trained with on ImageNet, as the published ones.
_base_ = [
    '../../_base_/default_runtime.py', '../../_base_/datasets/imagenet_224.py',
    '../../_base_/schedules/imagenet_bs1024_adamw_100e.py']

model = dict(backbone=dict(block_fixed=False))
