_base_ = ['./_base_digits.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmpretrain.VisionTransformer', img_size=8, patch_size=2, out_type='cls_token',
        arch=dict(embed_dims=48, num_layers=6, num_heads=3, feedforward_channels=96)),
    head=dict(type='mmpretrain.VisionTransformerClsHead', num_classes=10, in_channels=48,
              loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))
