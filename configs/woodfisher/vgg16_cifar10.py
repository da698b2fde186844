_base_ = ['./_base_cifar.py', './_base_sweep.py', '../_base_/datasets/cifar10.py']

model = dict(
    backbone=dict(type='CifarVGG', depth=16, last_pool='avg', init='vgg_init'),
    head=dict(num_classes=10, in_channels=512))
train_dataloader = dict(batch_size=128)
pruning = dict(
    checkpoint='result://configs/woodfisher/{{ fileBasename }}',
    renormalizers=dict(rescale=dict(type='rescale', samples=4096)))
