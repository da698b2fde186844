# A module learned in a few epochs: the head is fitted to the whole network, masks start from saliencies and are held to
# a budget that shrinks over the first three fifths. eps is near the median gradient of a mask: masks that matter little
# then move little, where Adam would otherwise move all alike.
_base_ = ['../_base_/default_runtime.py']

model = dict(type='ModularClassifier')

optim_wrapper = dict(
    constructor='MaskOptimWrapperConstructor',
    optimizer=dict(type='Adam', lr=0.01, eps=1e-4),
    paramwise_cfg=dict(head_lr=0.01))
param_scheduler = dict(type='CosineAnnealingLR', eta_min=0., by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(by_epoch=True, max_epochs=12, val_interval=1)
val_cfg = dict()
test_cfg = dict()

custom_hooks = [
    dict(type='MaskInitHook'),
    dict(type='MaskBudgetHook', ratio=0.15, end=0.6),
    dict(type='ModuleSelectionHook', max_ratio=0.15)
]
