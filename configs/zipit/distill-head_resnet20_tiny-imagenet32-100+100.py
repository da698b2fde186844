# The whole merge of two ResNet-20, calibrated, its last layer refitted, and distilled for one epoch without labels.
# Controls beside it.
# --cfg-options split_seed=1: the nets of another division of the classes.
_base_ = ['./zipit_resnet20_tiny-imagenet32-100+100.py']

runner_type = 'RepairRunner'
repair = dict(
    renormalizers=[[dict(type='reset', samples=2000), dict(type='calibrate', samples=5000),
                    dict(type='head', samples=5000)]],
    distill=dict(steps=1400, every=200, samples=89600))
