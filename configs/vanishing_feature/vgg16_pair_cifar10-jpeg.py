#   python tools/train.py configs/vanishing_feature/vgg16_pair_cifar10-jpeg.py --amp
_base_ = ['./_base_pair_cifar10-jpeg.py']

model = dict(
    classifier=dict(
        backbone=dict(type='CifarVGG', depth=16, width=32, norm=None, last_pool='avg', init='vgg_init'),
        head=dict(num_classes=10, in_channels=256)))
# With the learning rate of VGG-11 one of the nets does not get going.
optim_wrapper = dict(optimizer=dict(lr=0.03))
