# The nets of the two halves of the digits, merged.
_base_ = ['../zipit/_base_merge.py', '../_base_/datasets/digits.py']

_tasks = dict(num_classes=10, parts=2, seed=0)
model = dict(
    tasks=_tasks, input_size=(3, 8, 8),
    sources=[
        dict(config=f'configs/quickstart/half-{part}_digits.py', name=part) for part in 'ab'])

val_evaluator = dict(_delete_=True, type='TaskAccuracy', tasks=_tasks, rule='text')
test_evaluator = val_evaluator

default_hooks = dict(
    merge=dict(matcher=dict(alpha=0.01, beta=1.), samples=1000),
    renormalize=dict(renormalizers=[dict(type='reset', samples=1000)]))
