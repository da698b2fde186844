# Merges up to one place after the other, with batch norms reset and calibrated.
_base_ = ['./repair_resnet20-2x_cifar10-jpeg-5+5.py']

repair = dict(controls=False, stops=['none', 'backbone.layer3', 'backbone.layer2', 'backbone.layer1'], renormalizers=[
    [dict(type='reset', samples=2000)], [dict(type='reset', samples=2000), dict(type='calibrate', samples=1000)]])
