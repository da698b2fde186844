# Structured: a VGG-11-BN with half of its multiply-accumulates. Numbers of channels are multiples of 16, the width of
# the registers of a CPU: fewer take no less time.
#   python tools/train.py configs/vanishing_feature/vgg11-bn_pair_cifar10-jpeg.py --amp
#   python tools/pruning/prune_channels.py configs/woodfisher/channels_vgg11-bn_cifar10-jpeg.py
#   python tools/train.py configs/woodfisher/channels_vgg11-bn_cifar10-jpeg.py --amp
#   python tools/test.py configs/woodfisher/channels_vgg11-bn_cifar10-jpeg.py
#       work_dirs/channels_vgg11-bn_cifar10-jpeg/epoch_1.pth
_base_ = ['./_base_channels.py']

model = dict(
    backbone=dict(type='CifarVGG', depth=11, width=32, norm='bn', last_pool='avg', init='vgg_init'),
    head=dict(num_classes=10, in_channels=256),
    init_cfg=dict(
        type='Pretrained', checkpoint='work_dirs/{{ fileBasenameNoExtension }}/channels/magnitude_0.5_0_reset.pth'))
channels = dict(checkpoint='result://configs/vanishing_feature/vgg11-bn_pair_cifar10-jpeg.py#net1')
