# Two small vision transformers, of five digits each; full merge, heads included. There are no batch norms to reset.
# --cfg-options split_seed=1: the nets of another division of the classes.
_base_ = ['./_base_merge.py', '../_base_/datasets/digits.py']

_tasks = dict(num_classes=10, parts=2, seed='${split_seed}')
model = dict(
    tasks=_tasks, input_size=(3, 8, 8),
    sources=[
        dict(config=f'configs/zipit/sources/vit_digits-5+5_{part}.py', options=dict(split_seed='${split_seed}'),
             name=part) for part in 'ab'])

val_evaluator = dict(_delete_=True, type='TaskAccuracy', tasks=_tasks, rule='text')
test_evaluator = val_evaluator
default_hooks = dict(merge=dict(matcher=dict(alpha=0.01, beta=1.), samples=1000), renormalize=dict(renormalizers=[]))
