# CIFAR-100, downloaded when it is not there; normalised like CIFAR-10, as the nets of ZipIt! are.
# A tenth of the training images is held out for validation.
_base_ = ['./cifar10.py']

data_root = '{{$MMREUSE_DATA_ROOT:data}}/cifar100'
data_type = 'mmpretrain.CIFAR100'
data_preprocessor = dict(num_classes=100)
train_dataloader = dict(dataset=dict(dataset=dict(type=data_type, data_root=data_root)))
val_dataloader = dict(dataset=dict(dataset=dict(type=data_type, data_root=data_root)))
test_dataloader = dict(dataset=dict(type=data_type, data_root=data_root))
