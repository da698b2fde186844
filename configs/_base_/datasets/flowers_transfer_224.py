# Oxford Flowers-102, stock layout: 102 classes; training and validation split are for training.
_base_ = ['./transfer_224.py']

data_preprocessor = dict(num_classes=102)
_data = dict(type='mmpretrain.Flowers102', data_root='{{$MMREUSE_DATA_ROOT:data}}/flowers')
_train = dict(**_data, split='trainval', pipeline=_base_.train_pipeline)
_val = dict(**_data, split='trainval', pipeline=_base_.test_pipeline)
train_dataloader = dict(dataset=dict(**_base_.held_out, dataset=_train))
val_dataloader = dict(dataset=dict(**_base_.held_out, test_mode=True, dataset=_val))
test_dataloader = dict(dataset=dict(**_data, split='test', pipeline=_base_.test_pipeline))
