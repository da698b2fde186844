# Stanford 40 Actions, stock layout.
_base_ = ['./transfer_224.py']

data_preprocessor = dict(num_classes=40)
_data = dict(type='StanfordActions', data_root='{{$MMREUSE_DATA_ROOT:data}}/stanford_actions')
_train = dict(**_data, split='train', pipeline=_base_.train_pipeline)
_val = dict(**_data, split='train', pipeline=_base_.test_pipeline)
train_dataloader = dict(dataset=dict(**_base_.held_out, dataset=_train))
val_dataloader = dict(dataset=dict(**_base_.held_out, test_mode=True, dataset=_val))
test_dataloader = dict(dataset=dict(**_data, split='test', pipeline=_base_.test_pipeline))
