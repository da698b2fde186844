# The base of configs/seam/resnet20_tiny-imagenet32_superclass.py: a ResNet-20 of all 200 classes.
_base_ = ['../_base_/datasets/tiny_imagenet32.py', '../_base_/default_runtime.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=20),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=200,
        in_channels=64,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, )))

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.2, momentum=0.9, nesterov=True, weight_decay=1e-4))
param_scheduler = dict(
    type='OneCycleLR', eta_max=0.2, total_steps=10, pct_start=0.2, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=1)
val_cfg = dict()
test_cfg = dict()
