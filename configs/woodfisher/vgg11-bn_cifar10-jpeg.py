#   python tools/train.py configs/vanishing_feature/vgg11-bn_pair_cifar10-jpeg.py --amp
#   python tools/pruning/prune.py configs/woodfisher/vgg11-bn_cifar10-jpeg.py
_base_ = ['./_base_cifar.py', './_base_sweep_all.py', '../_base_/datasets/cifar10_jpeg.py']

model = dict(
    backbone=dict(type='CifarVGG', depth=11, width=32, norm='bn', last_pool='avg', init='vgg_init'),
    head=dict(num_classes=10, in_channels=256))
pruning = dict(checkpoint='result://configs/vanishing_feature/vgg11-bn_pair_cifar10-jpeg.py#net1')
