# Merges up to one place after the other, with batch norms reset, and calibrated before that: behind a calibrated trunk
# tails get something else than what their batch norms were measured on.
_base_ = ['./zipit_resnet20-2x_cifar10-jpeg-5+5.py']

runner_type = 'RepairRunner'
repair = dict(controls=False, stops=['none', 'backbone.layer3', 'backbone.layer2', 'backbone.layer1'], renormalizers=[
    [dict(type='reset', samples=2000)], [dict(type='calibrate', samples=1000), dict(type='reset', samples=2000)]])
