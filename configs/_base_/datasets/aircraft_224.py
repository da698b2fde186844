# FGVC-Aircraft, variants: 100 classes; the metric is the mean accuracy per class.
_base_ = ['./downstream_224.py']

data_root = '{{$MMREUSE_DATA_ROOT:data}}/aircraft'
data_preprocessor = dict(num_classes=100)
data_type = 'mmpretrain.FGVCAircraft'
train_dataloader = dict(
    dataset=dict(type=data_type, data_root=data_root, split='trainval', pipeline=_base_.train_pipeline))
val_dataloader = dict(
    dataset=dict(type=data_type, data_root=data_root, split='test', pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
