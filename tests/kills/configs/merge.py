_base_ = ['../../../configs/zipit/_base_merge.py', '../../../configs/_base_/datasets/digits.py']

_tasks = dict(num_classes=10, parts=2, seed=0)
model = dict(
    tasks=_tasks, input_size=(3, 8, 8), stop='backbone.layer2',
    sources=[
        dict(config='tests/kills/configs/half.py', options=dict(part=part), name=name,
             checkpoint=f'sources/half{part}.pth') for part, name in enumerate('ab')])
val_evaluator = dict(_delete_=True, type='TaskAccuracy', tasks=_tasks, rule='text')
test_evaluator = val_evaluator
default_hooks = dict(
    merge=dict(samples=256),
    renormalize=dict(renormalizers=[dict(type='reset', samples=256)]))
