_base_ = ['./_base_pair_cifar10.py']

model = dict(
    classifier=dict(
        backbone=dict(type='CifarResNet', depth=20, shortcut='conv1x1', init=None),
        head=dict(num_classes=10, in_channels=64)))
