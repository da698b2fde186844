_base_ = ['./zipit_resnet20-8x_cifar100-50+50.py']

model = dict(stop='backbone.layer1')
