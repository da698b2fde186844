# What a CPU can do: the VGG-11-BN that benchmarks/latency_budget.py prunes, eight epochs from scratch, a triangular
# learning rate.
#   python tools/train.py configs/woodfisher/vgg11-bn_8-epochs_cifar10-jpeg.py --amp
_base_ = ['./vgg11-bn_cifar10-jpeg.py']

optim_wrapper = dict(optimizer=dict(nesterov=True, weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=2, by_epoch=True, convert_to_iter_based=True),
    dict(type='LinearLR', start_factor=1, end_factor=0.001, begin=2, end=8, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=8, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=1))
