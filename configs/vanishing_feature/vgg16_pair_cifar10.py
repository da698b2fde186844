_base_ = ['./_base_pair_cifar10.py']

model = dict(
    classifier=dict(
        backbone=dict(type='CifarVGG', depth=16, last_pool='avg', init='vgg_init'),
        head=dict(num_classes=10, in_channels=512)))
