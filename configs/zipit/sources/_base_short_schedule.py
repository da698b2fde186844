# The small nets that are trained here: text-embedding heads, a triangular learning rate over eight epochs.
# --cfg-options split_seed=1: another division of the classes, and another initialisation; a merge with split_seed=1
# takes these nets.
_base_ = ['../../_base_/default_runtime.py']

split_seed = 0
part = 0
randomness = dict(seed='${100 * part + split_seed}')  # each half from its own initialisation

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=20, width=32, shortcut='conv3x3'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='TextEmbeddingHead', in_channels=128, loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=2, by_epoch=True, convert_to_iter_based=True),
    dict(type='LinearLR', start_factor=1, end_factor=0.001, begin=2, end=8, by_epoch=True,
         convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=8, val_interval=4)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=1))
