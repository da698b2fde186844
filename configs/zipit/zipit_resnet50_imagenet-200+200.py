# Two ResNet-50 of blocks of 200 ImageNet classes, with heads of all 1000. --cfg-options blocks=[2,4]: other blocks.
_base_ = ['./_base_merge.py', '../_base_/datasets/imagenet_plain_224.py']

blocks = [0, 1]
block_classes = [list(range(200 * block, 200 * block + 200)) for block in range(5)]
_tasks = [f'${{block_classes[blocks[{number}]]}}' for number in range(2)]
model = dict(
    tasks=_tasks, num_classes=1000, input_size=(3, 224, 224),
    sources=[
        dict(config='configs/zipit/sources/resnet50_imagenet-200+200.py',
             options=dict(part=f'${{blocks[{number}]}}'), name=f'block ${{blocks[{number}]}}') for number in range(2)])

_classes = '${block_classes[blocks[0]] + block_classes[blocks[1]]}'
train_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=_classes, dataset=_base_.train_dataloader.dataset))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=_classes, dataset=_base_.val_dataloader.dataset))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='TaskAccuracy', tasks=_tasks)
test_evaluator = val_evaluator
