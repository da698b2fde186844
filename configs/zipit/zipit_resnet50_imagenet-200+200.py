# Two ResNet-50 of blocks of 200 ImageNet classes, with heads of all 1000. BLOCKS=2,4 in the environment: other blocks.
_base_ = ['./_base_merge.py', '../_base_/datasets/imagenet_plain_224.py']

_blocks = [int(block) for block in '{{$BLOCKS:0,1}}'.split(',')]
_tasks = [list(range(200 * block, 200 * block + 200)) for block in _blocks]
_source = 'resnet50_imagenet-200+200'
model = dict(
    tasks=_tasks, num_classes=1000, input_size=(3, 224, 224),
    sources=[
        dict(config=f'configs/zipit/sources/{_source}.py', name=f'block {block}',
             checkpoint=f'work_dirs/{_source}/part{block}/epoch_90.pth') for block in _blocks])

_classes = sum(_tasks, [])
train_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=_classes, dataset=_base_.train_dataloader.dataset))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=_classes, dataset=_base_.val_dataloader.dataset))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='TaskAccuracy', tasks=_tasks)
test_evaluator = val_evaluator
