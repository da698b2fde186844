# DeRy(4, 50, 10): 40.41 M parameters, 6.43 GFLOPs.
_base_ = ['../zoos/paper.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='DeRy',
        zoo=_base_.zoo,
        base_channels=64,
        block_list=[
            dict(model='resnet50', first='layer1.0', last='layer1.1'),
            dict(model='regnet_y_3_2gf', first='trunk_output.block2.block2-1', last='trunk_output.block3.block3-1'),
            dict(model='resnet101', first='layer3.8', last='layer3.22'),
            dict(model='resnet50', first='layer3.4', last='layer4.2')
        ],
        adapter_list=[
            dict(mode='cnn2cnn', in_channels=256, out_channels=216, stride=2),
            dict(mode='cnn2cnn', in_channels=576, out_channels=1024),
            dict(mode='cnn2cnn', in_channels=1024, out_channels=1024)
        ],
        block_fixed=True),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=2048,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1)),
    train_cfg=dict(
        augments=[
            dict(type='Mixup', _scope_='mmpretrain', alpha=0.1),
            dict(type='CutMix', _scope_='mmpretrain', alpha=1.0)
        ],
        probs=[0.5, 0.5]))
