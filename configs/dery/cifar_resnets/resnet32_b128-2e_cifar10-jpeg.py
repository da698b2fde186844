# A whole member of the zoo, trained like the reassembled nets: the baseline of equal cost.
_base_ = ['./finetune_b128-2e_cifar10-jpeg.py', '../../_base_/zoos/cifar_resnets.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='DeRy',
        zoo=_base_.zoo,
        stem='cifar',
        base_channels=16,
        block_list=[dict(model='resnet32', first='layer1.0', last='layer3.4')]),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64))
