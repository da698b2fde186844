# Digits at their own 8x8 and a schedule of seconds, shared by everything the quick start trains.
_base_ = ['../_base_/default_runtime.py']

data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor', num_classes=10, mean=[78.] * 3, std=[94.] * 3, to_rgb=False)

_loader = dict(batch_size=32, num_workers=0)
_pipeline = [dict(type='mmpretrain.PackInputs')]
train_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='Digits', split='train', pipeline=_pipeline))
val_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='val', pipeline=_pipeline))
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, ))
test_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='test', pipeline=_pipeline))
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=12, val_interval=1)
val_cfg = dict()
test_cfg = dict()

default_hooks = dict(logger=dict(interval=1000), checkpoint=dict(interval=1, max_keep_ckpts=1))
