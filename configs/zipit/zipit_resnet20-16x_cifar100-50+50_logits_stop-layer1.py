_base_ = ['./zipit_resnet20-16x_cifar100-50+50_logits.py']

model = dict(stop='backbone.layer1')
