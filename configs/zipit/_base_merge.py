# What every merge shares. Hooks merge and renormalise on images of the train_dataloader, the result is saved as
# merged.pth and validated. Nothing is trained: with more epochs and an optim_wrapper, training goes on from the merge.
# A config that inherits says which sources, tasks and data.
_base_ = ['../_base_/default_runtime.py']

split_seed = 0
randomness = dict(seed='${split_seed}')

model = dict(type='MergedClassifier')
train_cfg = dict(by_epoch=True, max_epochs=0)
val_cfg = dict()
test_cfg = dict()

default_hooks = dict(
    merge=dict(type='MergeHook', matcher=dict(type='zip', alpha=0.3, beta=0.125), samples=2000),
    renormalize=dict(type='RenormalizationHook', renormalizers=[dict(type='reset', samples=2000)]),
    checkpoint=dict(filename_tmpl='merged.pth', save_optimizer=False, save_param_scheduler=False))
