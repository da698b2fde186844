_base_ = ['./_base_digits.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=14),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64,
              loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))
