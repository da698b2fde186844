# What a CPU can do: a ResNet-20 of the original CIFAR-10, fine-tuned for two epochs on CIFAR-10-JPEG, then pruned.
#   python tools/model_converters/plain_to_classifier.py configs/woodfisher/resnet20_cifar10-jpeg.py
#       data/weights/cifar10_resnet20.safetensors
#   python tools/train.py configs/woodfisher/resnet20_cifar10-jpeg.py
#   python tools/pruning/prune.py configs/woodfisher/resnet20_cifar10-jpeg.py
_base_ = ['./_base_cifar.py', './_base_sweep_all.py', '../_base_/datasets/cifar10_jpeg.py']

# Not load_from, which --resume would put aside.
model = dict(
    backbone=dict(type='CifarResNet', depth=20),
    head=dict(num_classes=10, in_channels=64),
    init_cfg=dict(
        type='Pretrained', checkpoint='{{$MMREUSE_DATA_ROOT:data}}/weights/cifar10_resnet20_classifier.safetensors'))

optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = dict(
    _delete_=True, type='CosineAnnealingLR', begin=0, end=2, eta_min=1e-4, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(max_epochs=2, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1))

pruning = dict(checkpoint='result://configs/woodfisher/{{ fileBasename }}')
