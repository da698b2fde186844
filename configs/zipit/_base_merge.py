# What every merge shares. Nothing is trained: hooks merge and renormalise on images of the train_dataloader, the result
# is saved as merged.pth and validated. A config that inherits says which sources, tasks and data.
_base_ = ['../_base_/default_runtime.py']

randomness = dict(seed=int('{{$SPLIT_SEED:0}}'))

model = dict(type='MergedClassifier')
train_cfg = dict(type='MergeLoop')
val_cfg = dict()
test_cfg = dict()
# mmengine asks for an optimizer wherever there is a train_cfg; this one makes no step.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.))

default_hooks = dict(
    merge=dict(type='MergeHook', matcher=dict(type='zip', alpha=0.3, beta=0.125), samples=2000),
    renormalize=dict(type='RenormalizationHook', renormalizers=[dict(type='reset', samples=2000)]),
    checkpoint=dict(filename_tmpl='merged.pth', save_optimizer=False, save_param_scheduler=False))
