_base_ = ['./zipit_resnet20_tiny-imagenet32-100+100.py']

model = dict(stop='backbone.layer2')
