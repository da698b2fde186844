# Two ResNet-50 of all ImageNet classes, from different initialisations: one task.
_base_ = ['./_base_merge.py', '../_base_/datasets/imagenet_plain_224.py']

_tasks = [list(range(1000))]
model = dict(
    tasks=_tasks, input_size=(3, 224, 224),
    sources=[
        dict(config='configs/zipit/sources/resnet50_imagenet.py', options=dict(init_seed=seed),
             name=f'seed {seed}') for seed in range(2)])

default_hooks = dict(merge=dict(matcher=dict(_delete_=True, type='permute')))
val_evaluator = dict(_delete_=True, type='TaskAccuracy', tasks=_tasks, rule='mean')
test_evaluator = val_evaluator
