# Two small vision transformers, of five digits each; full merge, heads included. There are no batch norms to reset.
# SPLIT_SEED=1 in the environment: the nets of another division of the classes.
_base_ = ['./_base_merge.py', '../_base_/datasets/digits.py']

_tasks = dict(num_classes=10, parts=2, seed=int('{{$SPLIT_SEED:0}}'))
model = dict(
    tasks=_tasks, input_size=(3, 8, 8),
    sources=[
        dict(config=f'configs/zipit/sources/vit_digits-5+5_{part}.py', name=part,
             checkpoint=f'work_dirs/zipit/vit_digits-5+5_{part}_seed{{$SPLIT_SEED:0}}/epoch_30.pth') for part in 'ab'])

val_evaluator = dict(_delete_=True, type='TaskAccuracy', tasks=_tasks, rule='text')
test_evaluator = val_evaluator
default_hooks = dict(merge=dict(matcher=dict(alpha=0.01, beta=1.), samples=1000), renormalize=dict(renormalizers=[]))
