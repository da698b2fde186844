_base_ = ['./_base_digits.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmpretrain.TIMMBackbone', model_name='convnext_atto', depths=(2, 2, 2, 2),
                  dims=(16, 32, 48, 64), patch_size=1),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64,
              loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))
