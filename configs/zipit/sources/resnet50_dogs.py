# Stanford Dogs: 120 breeds, from the ImageNet net of init_seed=0.
_base_ = ['./_base_fine-grained.py']

data_preprocessor = dict(num_classes=120)
model = dict(
    backbone=dict(init_cfg=dict(
        type='Pretrained', prefix='backbone.',
        checkpoint='result://configs/zipit/sources/resnet50_imagenet.py?init_seed=0')),
    head=dict(num_classes=120))

_data = dict(type='StanfordDogs', data_root='{{$MMREUSE_DATA_ROOT:data}}/stanford_dogs')
_test = dict(**_data, split='test', pipeline=_base_.test_pipeline)
train_dataloader = dict(dataset=dict(**_data, split='train', pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(**_base_.held_out, test_mode=True, dataset=_test))
test_dataloader = dict(dataset=dict(**_base_.held_out, dataset=_test))
