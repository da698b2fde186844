# Networks and trainings of a second, on the embedded digits.
_base_ = ['../../../configs/quickstart/_base_digits.py']

_model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=8, width=8, shortcut='conv1x1'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=32,
              loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))
train_dataloader = dict(num_batch_per_epoch=8)
val_dataloader = dict(batch_size=64, num_batch_per_epoch=1)  # of 300 images, also for four processes
test_dataloader = dict(batch_size=64, num_batch_per_epoch=1)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=3, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=3)
default_hooks = dict(logger=dict(interval=4), checkpoint=dict(interval=1, max_keep_ckpts=2))
