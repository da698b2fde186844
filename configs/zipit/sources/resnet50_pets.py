# Oxford-IIIT Pets: 37 breeds, from the ImageNet net of init_seed=1.
_base_ = ['./_base_fine-grained.py']

data_preprocessor = dict(num_classes=37)
model = dict(
    backbone=dict(init_cfg=dict(
        type='Pretrained', prefix='backbone.',
        checkpoint='result://configs/zipit/sources/resnet50_imagenet.py?init_seed=1')),
    head=dict(num_classes=37))

_data = dict(type='mmpretrain.OxfordIIITPet', data_root='{{$MMREUSE_DATA_ROOT:data}}/pets')
_test = dict(**_data, split='test', pipeline=_base_.test_pipeline)
train_dataloader = dict(dataset=dict(**_data, split='trainval', pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(**_base_.held_out, test_mode=True, dataset=_test))
test_dataloader = dict(dataset=dict(**_base_.held_out, dataset=_test))
