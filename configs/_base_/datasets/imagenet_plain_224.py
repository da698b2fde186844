# ImageNet-1k with the classical augmentation: random crops and flips.
_base_ = ['./imagenet_224.py']

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmpretrain.RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmpretrain.PackInputs')
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
