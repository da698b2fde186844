# SeaM as published: 300 epochs in batches of 64, the head alone in every fifth, masks from 1, no schedule. Configs set
# alpha and the learning rate of the masks. Differences: the state is chosen on validation data, not on the test data,
# and one Adam serves both kinds of epochs, so that the head has one pair of moments, not two.
_base_ = ['../_base_/default_runtime.py']

model = dict(type='ModularClassifier')

optim_wrapper = dict(
    constructor='MaskOptimWrapperConstructor',
    optimizer=dict(type='Adam'),
    paramwise_cfg=dict(head_lr=0.1))
param_scheduler = None
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()

default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=1))
custom_hooks = [dict(type='MaskScheduleHook', period=5), dict(type='ModuleSelectionHook', compat=True)]
