_base_ = ['./zipit_vgg11-1x_cifar10-5+5_logits.py']

model = dict(stop='backbone.features.7')
