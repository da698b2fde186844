#   python tools/train.py configs/vanishing_feature/vgg11-bn_pair_cifar10-jpeg.py --amp
_base_ = ['./_base_pair_cifar10-jpeg.py']

model = dict(
    classifier=dict(
        backbone=dict(type='CifarVGG', depth=11, width=32, norm='bn', last_pool='avg', init='vgg_init'),
        head=dict(num_classes=10, in_channels=256)))
