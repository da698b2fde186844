# VGG nets without norms: a smaller learning rate, Xavier's initialisation.
_base_ = ['./_base_logits.py']

model = dict(backbone=dict(_delete_=True, type='CifarVGG', init='xavier'))
optim_wrapper = dict(optimizer=dict(lr=0.08))
