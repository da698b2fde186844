# The ResNet of resnet_digits.py pruned in four ways, before and after its batch norms are reset.
_base_ = ['./resnet_digits.py', '../woodfisher/_base_sweep.py']

pruning = dict(
    checkpoint='result://configs/quickstart/resnet_digits.py',
    renormalizers=dict(reset=dict(type='reset', samples=512)))
