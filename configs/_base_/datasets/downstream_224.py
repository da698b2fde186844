# Pictures of the downstream data sets at 224 pixels: augmentation, loaders without their data sets, metrics.
data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

augment = [
    dict(type='mmpretrain.RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    # The policies are named within mmpretrain.
    dict(
        type='mmpretrain.RandAugment',
        _scope_='mmpretrain',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic')),
    dict(type='BoxBlur', kernel=3, prob=0.1),
    dict(type='GaussianNoise', max_variance=10., prob=0.1),
    dict(
        type='mmpretrain.RandomErasing',
        erase_prob=0.2,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=[103.53, 116.28, 123.675],
        fill_std=[57.375, 57.12, 58.395]),
    dict(type='mmpretrain.PackInputs')
]
train_pipeline = [dict(type='LoadImageFromFile'), *augment]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmpretrain.ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='mmpretrain.PackInputs')
]

train_dataloader = dict(batch_size=64, num_workers=4, sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(batch_size=64, num_workers=4, sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader

# Mean accuracy per class is macro recall.
val_evaluator = [
    dict(type='mmpretrain.Accuracy', topk=(1, )),
    dict(type='mmpretrain.SingleLabelMetric', items=('recall', ), average='macro')
]
test_evaluator = val_evaluator
