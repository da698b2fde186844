# What two nets are fine-tuned from: a small ResNet after two epochs on all digits.
_base_ = ['../../quickstart/_base_digits.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=8, width=16, shortcut='conv3x3'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64,
        loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2))
