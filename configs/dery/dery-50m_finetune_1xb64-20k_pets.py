_base_ = [
    '../_base_/models/dery_50m.py', '../_base_/datasets/pets_224.py',
    '../_base_/schedules/downstream_bs64_adamw_20k.py', '../_base_/default_runtime.py'
]

model = dict(backbone=dict(block_fixed=False), head=dict(num_classes=37))
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2000))
