# Pipelines on the embedded digits: nothing to download, done in a minute.
_base_ = ['../_base_/default_runtime.py', '../_base_/datasets/digits.py']

runner_type = 'PipelineRunner'
seed = 0

_optimizer = dict(type='AdamW', lr=3e-3, weight_decay=0.05)
_model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=8),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64))
# Two networks of the same classes, from different random weights.
_nets = [
    dict(name=name, seed=number, job=dict(type='train', model=_model, epochs=6, optimizer=_optimizer))
    for number, name in enumerate('ab')
]
