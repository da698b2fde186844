# Describable Textures, first split, train and val against test: 47 classes.
_base_ = ['./downstream_224.py']

data_root = '{{$MMREUSE_DATA_ROOT:data}}/dtd'
data_preprocessor = dict(num_classes=47)
data_type = 'mmpretrain.DTD'
train_dataloader = dict(
    dataset=dict(type=data_type, data_root=data_root, split='trainval', pipeline=_base_.train_pipeline))
val_dataloader = dict(
    dataset=dict(type=data_type, data_root=data_root, split='test', pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
