# CUB-200-2011, stock layout: 200 classes.
_base_ = ['./downstream_224.py']

data_root = '{{$MMREUSE_DATA_ROOT:data}}/CUB_200_2011'
data_preprocessor = dict(num_classes=200)
data_type = 'mmpretrain.CUB'
train_dataloader = dict(
    dataset=dict(type=data_type, data_root=data_root, split='train', pipeline=_base_.train_pipeline))
val_dataloader = dict(
    dataset=dict(type=data_type, data_root=data_root, split='test', pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
