_base_ = ['./_base_cifar.py', './_base_sweep.py', '../_base_/datasets/cifar10.py']

model = dict(
    backbone=dict(type='CifarResNet', depth=20, shortcut='conv1x1', norm='ln'),
    head=dict(num_classes=10, in_channels=64))
# 391 iterations of warm-up in front of the steps.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, begin=0, end=391, by_epoch=False),
    dict(type='MultiStepLR', milestones=[82, 123], gamma=0.1, by_epoch=True)
]
train_dataloader = dict(batch_size=128)
pruning = dict(
    checkpoint='result://configs/woodfisher/{{ fileBasename }}',
    exclude=[r'.*\.shortcut\..*'],
    renormalizers=dict(repair=dict(type='repair', samples=4096)))
