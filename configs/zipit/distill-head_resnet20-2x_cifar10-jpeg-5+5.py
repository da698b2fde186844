# The whole merge of two ResNet-20, calibrated, its last layer refitted, and distilled for one epoch without labels; and
# controls. --cfg-options split_seed=1: the nets of another division of the classes.
_base_ = ['./zipit_resnet20-2x_cifar10-jpeg-5+5.py']

runner_type = 'RepairRunner'
repair = dict(
    controls=['random'],
    renormalizers=[[dict(type='reset', samples=2000), dict(type='calibrate', samples=1000),
                    dict(type='head', samples=1000)]],
    distill=dict(steps=700, every=100, lr=5e-4, samples=44800))
