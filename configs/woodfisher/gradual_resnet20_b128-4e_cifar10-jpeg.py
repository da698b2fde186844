# The same net pruned to 90 % in eight steps of a polynomial over three epochs of fine-tuning, and tuned for one more.
_base_ = ['./resnet20_cifar10-jpeg.py']

param_scheduler = dict(end=4)
train_cfg = dict(max_epochs=4)
custom_hooks = [
    dict(type='PruneHook', sparsity=0.9, begin=0, end=1050, interval=150, by_epoch=False, saliency='woodfisher',
         update='joint', fisher=dict(samples=1000, damp=1e-5))
]
