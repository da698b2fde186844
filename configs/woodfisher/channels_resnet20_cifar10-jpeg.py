# Structured: a ResNet-20 with half of its multiply-accumulates. Its shortcuts are convolutions, so that streams shrink
# as well; with padding as shortcuts the code of the net fixes their widths.
#   python tools/train.py configs/vanishing_feature/resnet20_pair_cifar10-jpeg.py --amp
#   python tools/pruning/prune_channels.py configs/woodfisher/channels_resnet20_cifar10-jpeg.py
#   python tools/train.py configs/woodfisher/channels_resnet20_cifar10-jpeg.py --amp
_base_ = ['./_base_channels.py']

model = dict(
    backbone=dict(type='CifarResNet', depth=20, shortcut='conv1x1'),
    head=dict(num_classes=10, in_channels=64),
    init_cfg=dict(
        type='Pretrained', checkpoint='work_dirs/{{ fileBasenameNoExtension }}/channels/magnitude_0.5_0_reset.pth'))
channels = dict(checkpoint='result://configs/vanishing_feature/resnet20_pair_cifar10-jpeg.py#net1')
