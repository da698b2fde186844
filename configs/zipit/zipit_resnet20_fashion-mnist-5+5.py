# Two ResNet-20 of five classes of Fashion-MNIST each; full merge, heads included.
# --cfg-options split_seed=1: the nets of another division of the classes.
_base_ = ['./_base_merge.py', '../_base_/datasets/fashion_mnist.py']

_tasks = dict(num_classes=10, parts=2, seed='${split_seed}')
_source = 'resnet20_fashion-mnist-5+5'
model = dict(
    tasks=_tasks, input_size=(1, 28, 28),
    sources=[
        dict(config=f'configs/zipit/sources/{_source}_{part}.py', options=dict(split_seed='${split_seed}'),
             name=part) for part in 'ab'])

val_evaluator = dict(_delete_=True, type='TaskAccuracy', tasks=_tasks, rule='text')
test_evaluator = val_evaluator

# Chosen on validation data of CIFAR-10-JPEG: joins within a model are what these narrow nets gain most from.
default_hooks = dict(merge=dict(matcher=dict(alpha=0.01, beta=1.)))
