# Tiny-ImageNet-32: 200 classes at 32x32, in class folders, tiny_imagenet32/{train,val}; the published validation set is
# the test set here. A tenth of the training images is held out for validation.
data_root = '{{$MMREUSE_DATA_ROOT:data}}/tiny_imagenet32'
data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor',
    num_classes=200,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True)

train_pipeline = [
    dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmpretrain.PackInputs')
]
test_pipeline = [dict(type='mmpretrain.PackInputs')]

train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmpretrain.KFoldDataset', fold=0, num_splits=10, seed=0,
        dataset=dict(
            type='mmreuse.InMemoryImageFolder', data_root=data_root, data_prefix='train', pipeline=train_pipeline)))
val_dataloader = dict(
    batch_size=256,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmpretrain.KFoldDataset', fold=0, num_splits=10, seed=0, test_mode=True,
        dataset=dict(
            type='mmreuse.InMemoryImageFolder', data_root=data_root, data_prefix='train', pipeline=test_pipeline)))
test_dataloader = dict(
    batch_size=256,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='InMemoryImageFolder', data_root=data_root, data_prefix='val', pipeline=test_pipeline))

val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, ))
test_evaluator = val_evaluator
