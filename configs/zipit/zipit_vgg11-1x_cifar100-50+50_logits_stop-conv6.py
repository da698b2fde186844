_base_ = ['./zipit_vgg11-1x_cifar100-50+50_logits.py']

model = dict(stop='backbone.features.14')
