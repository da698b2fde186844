#   python tools/train.py configs/vanishing_feature/resnet20_pair_cifar10-jpeg.py --amp
_base_ = ['./_base_pair_cifar10-jpeg.py']

model = dict(
    classifier=dict(
        backbone=dict(type='CifarResNet', depth=20, shortcut='conv1x1', norm='bn', init=None),
        head=dict(num_classes=10, in_channels=64)))
