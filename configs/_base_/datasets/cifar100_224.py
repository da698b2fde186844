# CIFAR-100, downloaded when it is not there, enlarged to 224 pixels; its images come in RGB order.
_base_ = ['./downstream_224.py']

data_root = '{{$MMREUSE_DATA_ROOT:data}}/cifar100'
data_preprocessor = dict(num_classes=100, mean=[129.304, 124.070, 112.434], std=[68.170, 65.392, 70.418], to_rgb=False)
resize = dict(type='Resize', scale=(224, 224))
train_dataloader = dict(
    dataset=dict(
        type='mmpretrain.CIFAR100', data_root=data_root, split='train', pipeline=[resize, *_base_.augment]))
val_dataloader = dict(
    dataset=dict(
        type='mmpretrain.CIFAR100',
        data_root=data_root,
        split='test',
        pipeline=[resize, dict(type='mmpretrain.PackInputs')]))
test_dataloader = val_dataloader
