# The merge of two digits transformers, as it is and calibrated, distilled for 100 steps without labels, beside its controls.
_base_ = ['./repair_vit_digits-5+5.py']

repair = dict(
    _delete_=True, renormalizers=[[], [dict(type='calibrate', samples=300)]],
    distill=dict(steps=100, every=20, samples=900))
