# The network of the 20 M budget, published for downstream data sets only.
_base_ = ['../zoos/paper.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='DeRy',
        zoo=_base_.zoo,
        base_channels=64,
        block_list=[
            dict(model='swsl_resnext50_32x4d', first='layer1.0', last='layer1.2'),
            dict(model='resnet50', first='layer1.2', last='layer3.1'),
            dict(model='vit_tiny_patch16_224', first='blocks.2', last='blocks.10'),
            dict(model='vit_small_patch16_224', first='blocks.9', last='blocks.11')
        ],
        adapter_list=[
            dict(mode='cnn2cnn', in_channels=256, out_channels=256),
            dict(mode='cnn2vit', in_channels=1024, out_channels=192),
            dict(mode='vit2vit', in_channels=192, out_channels=384, num_conv=0, num_fc=1)
        ],
        block_fixed=True),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=384,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1)),
    train_cfg=dict(
        augments=[
            dict(type='Mixup', _scope_='mmpretrain', alpha=0.1),
            dict(type='CutMix', _scope_='mmpretrain', alpha=1.0)
        ],
        probs=[0.5, 0.5]))
