_base_ = ['./_base_cifar100_superclass.py']

model = dict(
    alpha=2.0,
    in_classes=100,
    out_classes=5,
    base=dict(
        checkpoint='{{$MMREUSE_DATA_ROOT:data}}/weights/cifar100_resnet20-23dac2f1_classifier.safetensors',
        model=dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='CifarResNet', depth=20, shortcut='conv1x1'),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=100, in_channels=64))))
optim_wrapper = dict(optimizer=dict(lr=0.1))
