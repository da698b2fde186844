_base_ = ['./_base_pair_cifar100.py']

model = dict(
    classifier=dict(
        backbone=dict(type='CifarResNet', depth=20, shortcut='conv1x1', init=None),
        head=dict(num_classes=100, in_channels=64)))
