_base_ = ['./zipit_resnet50_fine-grained.py']

model = dict(stop='backbone.layer2')
