_base_ = ['./_base_pair_cifar100.py']

model = dict(
    classifier=dict(
        backbone=dict(type='CifarResNet', depth=20, shortcut='conv1x1', init=None, norm='ln'),
        head=dict(num_classes=100, in_channels=64)))
# 391 iterations of warm-up in front of the steps.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, begin=0, end=391, by_epoch=False),
    dict(type='MultiStepLR', milestones=[32000, 48000], gamma=0.1, by_epoch=False)
]
