# What a CPU can do: six epochs of CIFAR-10-JPEG, the learning rate warmed up for one and then falling along a cosine.
_base_ = ['../_base_/datasets/cifar10_jpeg.py', '../_base_/default_runtime.py', './_base_pair.py']

train_dataloader = dict(batch_sampler=dict(type='ParallelBatchSampler', parts=2))
val_evaluator = dict(_delete_=True, type='NetAccuracy')
test_evaluator = dict(_delete_=True, type='NetAccuracy')

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0., begin=1, end=6, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=6, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=1))
