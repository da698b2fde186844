# A net for one half of the digits. Its outputs are vectors that stand for the classes, the same for both halves.
_base_ = ['./_base_digits.py']

part = 0
classes = dict(num_classes=10, parts=2, part='${part}', seed=0)
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=8, width=16, shortcut='conv3x3'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='TextEmbeddingHead', in_channels=64, features=dict(num_classes=10, dims=64, seed=0),
              classes=classes, scale=20., loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))

train_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.test_dataloader.dataset}}))
train_cfg = dict(val_interval=12)
