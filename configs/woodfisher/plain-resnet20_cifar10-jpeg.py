#   python tools/train.py configs/vanishing_feature/plain-resnet20_pair_cifar10-jpeg.py --amp
#   python tools/pruning/prune.py configs/woodfisher/plain-resnet20_cifar10-jpeg.py
_base_ = ['./_base_cifar.py', './_base_sweep_all.py', '../_base_/datasets/cifar10_jpeg.py']

model = dict(
    backbone=dict(type='CifarResNet', depth=20, shortcut='conv1x1', norm=None),
    head=dict(num_classes=10, in_channels=64))
pruning = dict(
    checkpoint='result://configs/vanishing_feature/plain-resnet20_pair_cifar10-jpeg.py#net1',
    exclude=[r'.*\.shortcut\..*'],
    renormalizers=dict(_delete_=True, repair=dict(type='repair', samples=2048)))
