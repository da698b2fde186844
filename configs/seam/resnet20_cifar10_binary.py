_base_ = ['./_base_cifar10_binary.py']

model = dict(
    alpha=1.0,
    in_classes=10,
    out_classes=2,
    base=dict(
        checkpoint='{{$MMREUSE_DATA_ROOT:data}}/weights/cifar10_resnet20-4118986f_classifier.safetensors',
        model=dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='CifarResNet', depth=20, shortcut='conv1x1'),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64))))
optim_wrapper = dict(optimizer=dict(lr=0.05))
