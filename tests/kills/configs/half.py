# A network for one half of the digits.
_base_ = ['./_base_.py']

part = 0
classes = dict(num_classes=10, parts=2, part='${part}', seed=0)
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=8, width=8, shortcut='conv3x3'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='TextEmbeddingHead', in_channels=32, features=dict(num_classes=10, dims=16, seed=0),
              classes=classes, scale=20., loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))
