# Caltech-101 in class folders, caltech101/{train,test}: 102 classes; the metric is the mean accuracy per class.
_base_ = ['./downstream_224.py']

data_root = '{{$MMREUSE_DATA_ROOT:data}}/caltech101'
data_preprocessor = dict(num_classes=102)
data_type = 'CustomDataset'
train_dataloader = dict(
    dataset=dict(type=data_type, data_root=data_root, data_prefix='train', pipeline=_base_.train_pipeline))
val_dataloader = dict(
    dataset=dict(type=data_type, data_root=data_root, data_prefix='test', pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
