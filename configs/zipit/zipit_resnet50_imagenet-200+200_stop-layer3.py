_base_ = ['./zipit_resnet50_imagenet-200+200.py']

model = dict(stop='backbone.layer3')
