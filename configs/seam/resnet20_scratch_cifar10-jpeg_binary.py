# A baseline of configs/seam/resnet20_cifar10-jpeg_binary.py: the same network from random weights, on one problem.
_base_ = ['./resnet20_cifar10-jpeg_binary.py']

model = dict(
    _delete_=True,
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=20),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=2,
        in_channels=64,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, )))
data_preprocessor = dict(num_classes=2)
optim_wrapper = dict(
    _delete_=True, optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
custom_hooks = []
train_cfg = dict(max_epochs=6)
