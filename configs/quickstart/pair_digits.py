# Two nets for all ten digits, trained in one run from two initialisations; two probes of what lies between them.
_base_ = ['./_base_digits.py']

model = dict(
    type='ClassifierPair',
    classifier=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='CifarResNet', depth=8, width=16, shortcut='conv1x1'),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64,
                  loss=dict(type='mmpretrain.CrossEntropyLoss'))))
train_dataloader = dict(batch_sampler=dict(type='ParallelBatchSampler', parts=2))
train_cfg = dict(val_interval=12)
val_evaluator = dict(_delete_=True, type='NetAccuracy')
test_evaluator = dict(_delete_=True, type='NetAccuracy')
custom_hooks = [
    dict(type='NetCheckpointHook'), dict(type='ParameterDistanceHook'),
    dict(type='InterpolationHook', fraction=1., number=3, renormalizers=dict(reset='reset'), samples=1000)
]
