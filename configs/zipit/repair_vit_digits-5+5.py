# The merge of two digits transformers calibrated on 300 images without labels, beside its controls.
# --cfg-options split_seed=1: the nets of another division of the classes.
_base_ = ['./zipit_vit_digits-5+5.py']

runner_type = 'RepairRunner'
repair = dict(
    matchers=['identity', 'permute', dict(type='zip', alpha=0.01, beta=1.)],
    renormalizers=[[], [dict(type='calibrate', samples=300)]])
