# Ordinary heads with all classes, of which the net sees its own: the recipe of CCA Merge. SGD, learning rate up to 0.5
# over five epochs, then down to 1e-5 at the end of two hundred, changed at every iteration; 500 images a batch.
# part and split_seed are those of _base_cifar10-5+5.py; each half starts from an initialisation of its own.
_base_ = ['../../_base_/default_runtime.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=20, shortcut='conv3x3'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.5, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(type='LinearLR', start_factor=1, end_factor=2e-5, begin=5, end=200, by_epoch=True,
         convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=10)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=1))
