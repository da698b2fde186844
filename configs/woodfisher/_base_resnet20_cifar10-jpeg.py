# ResNet-20 with shortcuts without parameters, on CIFAR-10-JPEG.
_base_ = ['../_base_/default_runtime.py', '../_base_/datasets/cifar10_jpeg.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=20),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64,
        loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4))
param_scheduler = dict(type='CosineAnnealingLR', begin=0, end=2, eta_min=1e-4, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
val_cfg = dict()
test_cfg = dict()
