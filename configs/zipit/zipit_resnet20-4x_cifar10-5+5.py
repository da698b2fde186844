# Two ResNet-20 of four times the width, of five classes of CIFAR-10 each; text-embedding heads.
# --cfg-options split_seed=1: the nets of another division of the classes.
_base_ = ['./_base_merge.py', '../_base_/datasets/cifar10.py']

_tasks = dict(num_classes=10, parts=2, seed='${split_seed}')
_source = 'resnet20-4x_cifar10-5+5'
model = dict(
    tasks=_tasks, input_size=(3, 32, 32),
    sources=[
        dict(config=f'configs/zipit/sources/{_source}.py', options=dict(part=part, split_seed='${split_seed}'),
             name='ab'[part])
        for part in range(2)])

val_evaluator = dict(_delete_=True, type='TaskAccuracy', tasks=_tasks, rule='text')
test_evaluator = val_evaluator
