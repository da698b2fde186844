# The whole merge of two ResNet-20, calibrated and distilled for 400 steps without labels; and controls.
# The images are fewer than one epoch. --cfg-options split_seed=1: the nets of another division of the classes.
_base_ = ['./zipit_resnet20-2x_cifar10-jpeg-5+5.py']

runner_type = 'RepairRunner'
repair = dict(
    renormalizers=[[dict(type='reset', samples=2000), dict(type='calibrate', samples=1000)]],
    distill=dict(steps=400, every=100, samples=25600))
