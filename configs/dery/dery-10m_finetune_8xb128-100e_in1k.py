_base_ = [
    '../_base_/models/dery_10m.py', '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_100e.py', '../_base_/default_runtime.py'
]

model = dict(backbone=dict(block_fixed=False))
default_hooks = dict(checkpoint=dict(interval=5))
