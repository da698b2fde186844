# What reassembled nets are trained with: all parts for two epochs, stitching layers from a closed form.
_base_ = ['../../_base_/default_runtime.py', '../../_base_/datasets/cifar10_jpeg.py']

model = dict(
    backbone=dict(block_fixed=False),
    head=dict(loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=0, end=2, eta_min=1e-4, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
val_cfg = dict()
test_cfg = dict()
custom_hooks = [dict(type='StitchingInitHook', samples=512)]
