# The networks that jobs start from.
_base_ = ['./_jobs.py']

runner_type = 'PipelineRunner'
_optimizer = dict(type='AdamW', lr=3e-3, weight_decay=0.05)
_model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=8, width=8),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=32))
stages = [
    dict(name=name, seed=number, job=dict(type='train', model=_model, epochs=2, optimizer=_optimizer))
    for number, name in enumerate('ab')
]
