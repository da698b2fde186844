_base_ = ['./zipit_resnet20_fashion-mnist-5+5.py']

model = dict(stop='backbone.layer1')
