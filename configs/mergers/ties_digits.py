# Two nets that were fine-tuned from one, of five digits each, merged by TIES up to their heads.
_base_ = ['../zipit/_base_merge.py', '../_base_/datasets/digits.py']

_tasks = dict(num_classes=10, parts=2, seed=0)
model = dict(
    tasks=_tasks, input_size=(3, 8, 8), stop='backbone',
    sources=[
        dict(config='configs/mergers/sources/half_digits.py', options=dict(part=part), name=name)
        for part, name in enumerate('ab')])

val_evaluator = dict(_delete_=True, type='TaskAccuracy', tasks=_tasks)
test_evaluator = val_evaluator

default_hooks = dict(
    merge=dict(
        _delete_=True, type='MergeHook', merger=dict(type='ties', keep=0.2), samples=400,
        base=dict(config='configs/mergers/sources/base_digits.py')),
    renormalize=dict(renormalizers=[dict(type='reset', samples=400)]))
