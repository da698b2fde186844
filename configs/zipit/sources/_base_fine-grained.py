# ResNet-50 of ImageNet, all of it trained on for 200 epochs: Adam, learning rate up to 8e-3 over five epochs, then down
# to zero, changed at every iteration (the published code means this schedule, and by a mistake stays at its top).
_base_ = ['../../_base_/default_runtime.py', '../../_base_/datasets/fine_grained_224.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmpretrain.ResNet', depth=50),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead', in_channels=2048, loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))

optim_wrapper = dict(optimizer=dict(type='Adam', lr=8e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(type='LinearLR', start_factor=1, end_factor=0, begin=5, end=200, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=10)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=1))
