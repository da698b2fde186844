# Half of the multiply-accumulates by two saliencies, before and after renormalization, then one epoch of fine-tuning.
_base_ = ['./_base_cifar.py', '../_base_/datasets/cifar10_jpeg.py']

model = dict(type='NarrowClassifier', input_size=(3, 32, 32))

channels = dict(
    methods={
        'magnitude': dict(saliency='magnitude', multiple=16, minimum=0.25),
        'fisher': dict(
            saliency='diagonal_fisher', relative=False, multiple=16, minimum=0.25, fisher=dict(samples=1000)),
    },
    targets=[0.5],
    renormalizers=dict(reset=dict(type='reset', samples=2048), repair=dict(type='repair', samples=2048)),
    engines=['torch', 'onnxruntime', 'openvino'],
    batch_sizes=[1, 32])

optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = dict(
    _delete_=True, type='CosineAnnealingLR', begin=0, end=1, eta_min=1e-4, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(max_epochs=1, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1))
