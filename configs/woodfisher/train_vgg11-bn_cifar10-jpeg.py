# The VGG-11-BN of half width whose channels are removed: six epochs, some 15 minutes of one core.
#   python tools/train.py configs/woodfisher/train_vgg11-bn_cifar10-jpeg.py --amp
_base_ = ['./_base_cifar.py', '../_base_/datasets/cifar10_jpeg.py']

model = dict(
    backbone=dict(type='CifarVGG', depth=11, width=32, norm='bn', last_pool='avg', init='vgg_init'),
    head=dict(num_classes=10, in_channels=256))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0., begin=1, end=6, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=6, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1))
