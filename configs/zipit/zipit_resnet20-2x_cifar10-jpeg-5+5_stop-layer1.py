_base_ = ['./zipit_resnet20-2x_cifar10-jpeg-5+5.py']

model = dict(stop='backbone.layer1')
