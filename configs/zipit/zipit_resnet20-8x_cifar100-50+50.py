# Two ResNet-20 of eight times the width, of fifty classes of CIFAR-100 each; text-embedding heads.
# --cfg-options split_seed=1: the nets of another division of the classes.
_base_ = ['./_base_merge.py', '../_base_/datasets/cifar100.py']

_tasks = dict(num_classes=100, parts=2, seed='${split_seed}')
_source = 'resnet20-8x_cifar100-50+50'
model = dict(
    tasks=_tasks, input_size=(3, 32, 32),
    sources=[
        dict(config=f'configs/zipit/sources/{_source}.py', options=dict(part=part, split_seed='${split_seed}'),
             name='ab'[part])
        for part in range(2)])

val_evaluator = dict(_delete_=True, type='TaskAccuracy', tasks=_tasks, rule='text')
test_evaluator = val_evaluator
