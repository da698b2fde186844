# CIFAR-10, downloaded when it is not there, enlarged to 224 pixels; its images come in RGB order.
_base_ = ['./downstream_224.py']

data_root = '{{$MMREUSE_DATA_ROOT:data}}/cifar10'
data_preprocessor = dict(num_classes=10, mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255], to_rgb=False)
resize = dict(type='Resize', scale=(224, 224))
train_dataloader = dict(
    dataset=dict(
        type='mmpretrain.CIFAR10', data_root=data_root, split='train', pipeline=[resize, *_base_.augment]))
val_dataloader = dict(
    dataset=dict(
        type='mmpretrain.CIFAR10',
        data_root=data_root,
        split='test',
        pipeline=[resize, dict(type='mmpretrain.PackInputs')]))
test_dataloader = val_dataloader
