# The same with gates for channels: a module that compacts to a smaller, faster network.
#   python tools/train.py configs/seam/resnet20_cifar10-jpeg_binary_gates.py --cfg-options target=3
_base_ = ['./resnet20_cifar10-jpeg_binary.py']

# Engines compute 16 channels at once.
model = dict(input_size=(3, 32, 32), gates=16, cost='flops')
# Masks have no budget: nothing but the loss moves them, all of them and fast.
optim_wrapper = dict(optimizer=dict(lr=0.03, eps=1e-8))
train_cfg = dict(max_epochs=14)
custom_hooks = [
    dict(type='MaskInitHook'),
    dict(type='GateBudgetHook', ratio=0.54, end=0.3),
    dict(type='ModuleSelectionHook', max_ratio=1.)
]
modularization = dict(modules='work_dirs/{{ fileBasenameNoExtension }}/{target}/selection.pth')
