# Not among the published trainings, though its merges are.
_base_ = ['./_base_pair_cifar100.py']

model = dict(
    classifier=dict(
        backbone=dict(type='CifarVGG', depth=16, last_pool='avg', init='vgg_init'),
        head=dict(num_classes=100, in_channels=512)))
