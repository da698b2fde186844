# Merges up to one place after the other, with batch norms reset, and calibrated before that: behind a calibrated trunk
# tails get something else than what their batch norms were measured on. The other order stands beside.
_base_ = ['./zipit_resnet20-2x_cifar10-jpeg-5+5.py']

runner_type = 'RepairRunner'
_reset = dict(type='reset', samples=2000)
_calibrate = dict(type='calibrate', samples=1000)
repair = dict(
    controls=False,
    stops=['none', 'backbone.layer3', 'backbone.layer2', 'backbone.layer1'],
    renormalizers=[[_reset], [_calibrate, _reset], [_reset, _calibrate]])
