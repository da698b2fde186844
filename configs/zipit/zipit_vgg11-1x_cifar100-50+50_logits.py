# Two VGG-11 of fifty classes of CIFAR-100 each; ordinary heads.
# --cfg-options split_seed=1: the nets of another division of the classes.
_base_ = ['./_base_merge.py', '../_base_/datasets/cifar100.py']

_tasks = dict(num_classes=100, parts=2, seed='${split_seed}')
_source = 'vgg11-1x_cifar100-50+50_logits'
model = dict(
    tasks=_tasks, input_size=(3, 32, 32),
    sources=[
        dict(config=f'configs/zipit/sources/{_source}.py', options=dict(part=part, split_seed='${split_seed}'),
             name='ab'[part])
        for part in range(2)])

val_evaluator = dict(_delete_=True, type='TaskAccuracy', tasks=_tasks, rule='softmax_per_task')
test_evaluator = val_evaluator
