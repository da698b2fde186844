_base_ = ['./zipit_resnet20-4x_cifar10-5+5.py']

model = dict(stop='backbone.layer2')
