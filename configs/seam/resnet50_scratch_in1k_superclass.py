# The published baseline of resnet50_in1k_superclass.py, likewise; head.num_classes has to fit the superclass.
_base_ = ['./_base_imagenet_superclass.py']

model = dict(
    _delete_=True,
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmpretrain.ResNet', depth=50),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=13,
        in_channels=2048,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, )))
data_preprocessor = dict(num_classes=13)
optim_wrapper = dict(
    _delete_=True, optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1', rule='greater'))
custom_hooks = [
    dict(type='EarlyStoppingHook', monitor='accuracy/top1', min_delta=0., patience=30)
]
