# The whole merge of two ResNet-20 calibrated on images without labels, its last layer refitted too, and controls.
# --cfg-options split_seed=1: the nets of another division of the classes.
_base_ = ['./zipit_resnet20_tiny-imagenet32-100+100.py']

runner_type = 'RepairRunner'
_calibrated = [dict(type='reset', samples=2000), dict(type='calibrate', samples=5000)]
repair = dict(renormalizers=[_calibrated, [*_calibrated, dict(type='head', samples=5000)]])
