# The published baseline of resnet20_cifar100_superclass.py: the same network from random weights on one superclass,
# until 30 epochs bring nothing. As published it has all 100 outputs; here it has those of the problem.
_base_ = ['./_base_cifar100_superclass.py']

model = dict(
    _delete_=True,
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=20, shortcut='conv1x1'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=5,
        in_channels=64,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, )))
data_preprocessor = dict(num_classes=5)
optim_wrapper = dict(
    _delete_=True, optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1', rule='greater'))
custom_hooks = [
    dict(type='EarlyStoppingHook', monitor='accuracy/top1', min_delta=0., patience=30)
]
