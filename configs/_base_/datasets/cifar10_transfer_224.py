# CIFAR-10, downloaded when it is not there, enlarged to 224 pixels. Its images come in RGB order, and are normalised
# as the networks for ImageNet are used to. A fifth of the training images is held out for validation.
_base_ = ['./transfer_224.py']

data_preprocessor = dict(num_classes=10, to_rgb=False)
_data = dict(type='mmpretrain.CIFAR10', data_root='{{$MMREUSE_DATA_ROOT:data}}/cifar10')
_held_out = dict(_base_.held_out, num_splits=5)
_resized = [dict(type='Resize', scale=(224, 224), backend='pillow'), dict(type='mmpretrain.PackInputs')]
_train = dict(**_data, split='train', pipeline=_base_.train_pipeline[1:])
train_dataloader = dict(dataset=dict(**_held_out, dataset=_train))
val_dataloader = dict(
    dataset=dict(**_held_out, test_mode=True, dataset=dict(**_data, split='train', pipeline=_resized)))
test_dataloader = dict(dataset=dict(**_data, split='test', pipeline=_resized))
