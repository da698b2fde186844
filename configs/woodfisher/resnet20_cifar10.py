# The published net has convolutions as shortcuts and does not prune them.
_base_ = ['./_base_cifar.py', './_base_sweep.py', '../_base_/datasets/cifar10.py']

model = dict(
    backbone=dict(type='CifarResNet', depth=20, shortcut='conv1x1'), head=dict(num_classes=10, in_channels=64))
train_dataloader = dict(batch_size=128)
pruning = dict(
    checkpoint='result://configs/woodfisher/{{ fileBasename }}',
    exclude=[r'.*\.shortcut\..*'],
    renormalizers=dict(reset=dict(type='reset', samples=4096)))
