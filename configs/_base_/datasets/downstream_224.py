# Images of the downstream data sets at 224 pixels: augmentation, loaders without their data sets, metrics.
data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

# The published list: ranges of magnitudes from level 0 to 10.
strength = dict(magnitude_range=(0.05, 0.95))
pad = dict(pad_val=(123, 116, 103), interpolation='bicubic')
shift = dict(magnitude_range=(-0.3, 0.3), **pad)
policies = [
    dict(type='AutoContrast'),
    dict(type='Brightness', **strength),
    dict(type='ColorTransform', **strength),
    dict(type='Contrast', **strength),
    dict(type='Equalize'),
    dict(type='Invert'),
    dict(type='Sharpness', **strength),
    dict(type='Posterize', magnitude_range=(4, 8)),
    dict(type='Solarize', magnitude_range=(0, 256)),
    dict(type='Rotate', magnitude_range=(-30, 30), **pad),
    dict(type='Shear', direction='horizontal', **shift),
    dict(type='Shear', direction='vertical', **shift),
    dict(type='Translate', direction='horizontal', **shift),
    dict(type='Translate', direction='vertical', **shift)
]
augment = [
    dict(type='mmpretrain.RandomResizedCrop', scale=224),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    # The policies are named within mmpretrain.
    dict(
        type='mmpretrain.RandAugment',
        _scope_='mmpretrain',
        policies=policies,
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5),
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
    dict(type='mmpretrain.ResizeEdge', scale=256, edge='short'),
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
