# Stanford Cars, stock layout or class folders (then: CustomDataset): 196 classes.
_base_ = ['./downstream_224.py']

data_root = '{{$MMREUSE_DATA_ROOT:data}}/cars'
data_preprocessor = dict(num_classes=196)
data_type = 'mmpretrain.StanfordCars'
train_dataloader = dict(
    dataset=dict(type=data_type, data_root=data_root, split='train', pipeline=_base_.train_pipeline))
val_dataloader = dict(
    dataset=dict(type=data_type, data_root=data_root, split='test', pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
