# What five digits need of the ResNet of resnet_digits.py: weights, by masks that are learned; channels, in closed form.
_base_ = ['./_base_digits.py']

runner_type = 'PipelineRunner'
seed = 0

_classes = [1, 3, 5, 8, 9]
_net = 'configs/quickstart/resnet_digits.py'
_test = dict(test_dataloader=dict(
    batch_size=32, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ClassProblem', classes=_classes, dataset=_base_.test_dataloader.dataset)))
stages = [
    dict(name='masked', networks=[_net], job=dict(type='modularize', classes=_classes, ratio=0.15, epochs=6), **_test),
    dict(name='compacted', networks=['masked'], job=dict(type='compact')),
    dict(name='narrow', networks=[_net], job=dict(type='modularize_channels', classes=_classes, target=0.1), **_test),
]
