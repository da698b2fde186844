# What the published networks share: frozen blocks, a linear head, Mixup and CutMix.
_base_ = ['../zoos/paper.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='DeRy', zoo=_base_.zoo, block_fixed=True),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1)),
    train_cfg=dict(
        augments=[
            dict(type='Mixup', _scope_='mmpretrain', alpha=0.1),
            dict(type='CutMix', _scope_='mmpretrain', alpha=1.0)
        ],
        probs=[0.5, 0.5]))
