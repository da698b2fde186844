#   python tools/train.py configs/vanishing_feature/vgg16_pair_cifar10-jpeg.py --amp
_base_ = ['./vgg11_pair_cifar10-jpeg.py']

model = dict(classifier=dict(backbone=dict(depth=16)))
# With the learning rate of VGG-11 one of the nets does not get going.
optim_wrapper = dict(optimizer=dict(lr=0.03))
