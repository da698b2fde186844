# All five blocks at once, the last stage kept apart.
_base_ = ['./zipit_resnet50_imagenet-200+200.py']

_tasks = _base_.block_classes
model = dict(
    tasks=_tasks, stop='backbone.layer3',
    sources=[
        dict(config='configs/zipit/sources/resnet50_imagenet-200+200.py', options=dict(part=block),
             name=f'block {block}') for block in range(5)])

train_dataloader = dict(dataset=dict(classes=list(range(1000))))
val_dataloader = dict(dataset=dict(classes=list(range(1000))))
test_dataloader = val_dataloader
val_evaluator = dict(tasks=_tasks)
test_evaluator = val_evaluator
