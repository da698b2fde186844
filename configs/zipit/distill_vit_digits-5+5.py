# The merge of two digits transformers, as it is and calibrated, distilled for 100 steps without labels; and controls.
_base_ = ['./zipit_vit_digits-5+5.py']

runner_type = 'RepairRunner'
repair = dict(
    renormalizers=[[], [dict(type='calibrate', samples=300)]], distill=dict(steps=100, every=20, samples=900))
