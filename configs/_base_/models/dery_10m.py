# DeRy(4, 10, 3): 7.83 M parameters, 2.99 GFLOPs.
_base_ = ['../zoos/paper.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='DeRy',
        zoo=_base_.zoo,
        base_channels=32,
        block_list=[
            dict(model='regnet_y_16gf', first='trunk_output.block1.block1-0', last='trunk_output.block1.block1-1'),
            dict(model='mobilenetv3_large_100', first='blocks.2.2', last='blocks.2.2'),
            dict(model='regnet_y_800mf', first='trunk_output.block3.block3-3', last='trunk_output.block3.block3-7'),
            dict(model='regnet_y_1_6gf', first='trunk_output.block3.block3-15', last='trunk_output.block4.block4-1')
        ],
        adapter_list=[
            dict(mode='cnn2cnn', in_channels=224, out_channels=40),
            dict(mode='cnn2cnn', in_channels=40, out_channels=320),
            dict(mode='cnn2cnn', in_channels=320, out_channels=336)
        ],
        block_fixed=True),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=888,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1)),
    train_cfg=dict(
        augments=[
            dict(type='Mixup', _scope_='mmpretrain', alpha=0.1),
            dict(type='CutMix', _scope_='mmpretrain', alpha=1.0)
        ],
        probs=[0.5, 0.5]))
