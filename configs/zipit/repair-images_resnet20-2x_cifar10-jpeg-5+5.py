# Calibration of the whole merge by the number of images, beside the same from random weights.
_base_ = ['./zipit_resnet20-2x_cifar10-jpeg-5+5.py']

runner_type = 'RepairRunner'
repair = dict(controls=['random'], renormalizers=[
    [dict(type='reset', samples=2000), dict(type='calibrate', samples=samples)]
    for samples in (25, 50, 100, 200, 500, 2000)])
