# All five blocks at once, the last stage kept apart.
_base_ = ['./zipit_resnet50_imagenet-200+200.py']

_tasks = [list(range(200 * block, 200 * block + 200)) for block in range(5)]
_source = 'resnet50_imagenet-200+200'
model = dict(
    tasks=_tasks, stop='backbone.layer3',
    sources=[
        dict(config=f'configs/zipit/sources/{_source}.py', name=f'block {block}',
             checkpoint=f'work_dirs/{_source}/part{block}/epoch_90.pth') for block in range(5)])

train_dataloader = dict(dataset=dict(classes=list(range(1000))))
val_dataloader = dict(dataset=dict(classes=list(range(1000))))
test_dataloader = val_dataloader
val_evaluator = dict(tasks=_tasks)
test_evaluator = val_evaluator
