# The nets of the two halves of the digits, merged. The quick start says where their checkpoints lie.
_base_ = ['../zipit/_base_merge.py']

_tasks = dict(num_classes=10, parts=2, seed=0)
model = dict(
    tasks=_tasks, input_size=(3, 8, 8),
    sources=[
        dict(config=f'configs/quickstart/half-{part}_digits.py', name=part,
             checkpoint=f'work_dirs/quickstart/halves/{part}/epoch_12.pth') for part in 'ab'])

_loader = dict(batch_size=100, num_workers=0)
_pipeline = [dict(type='mmpretrain.PackInputs')]
train_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='Digits', split='train', pipeline=_pipeline))
val_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='val', pipeline=_pipeline))
test_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='test', pipeline=_pipeline))
val_evaluator = dict(type='TaskAccuracy', tasks=_tasks, rule='text')
test_evaluator = val_evaluator

default_hooks = dict(
    merge=dict(matcher=dict(alpha=0.01, beta=1.), samples=1000),
    renormalize=dict(renormalizers=[dict(type='reset', samples=1000)]))
