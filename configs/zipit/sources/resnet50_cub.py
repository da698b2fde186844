# CUB-200-2011: 200 birds, from the ImageNet net of init_seed=2.
_base_ = ['./_base_fine-grained.py']

data_preprocessor = dict(num_classes=200)
model = dict(
    backbone=dict(init_cfg=dict(
        type='Pretrained', prefix='backbone.',
        checkpoint='result://configs/zipit/sources/resnet50_imagenet.py?init_seed=2')),
    head=dict(num_classes=200))

_data = dict(type='mmpretrain.CUB', data_root='{{$MMREUSE_DATA_ROOT:data}}/CUB_200_2011')
_test = dict(**_data, split='test', pipeline=_base_.test_pipeline)
train_dataloader = dict(dataset=dict(**_data, split='train', pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(**_base_.held_out, test_mode=True, dataset=_test))
test_dataloader = dict(dataset=dict(**_base_.held_out, dataset=_test))
