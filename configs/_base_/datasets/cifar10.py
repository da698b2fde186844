# CIFAR-10, downloaded when it is not there; its images come in RGB order.
# A tenth of the training images is held out for validation.
data_root = '{{$MMREUSE_DATA_ROOT:data}}/cifar10'
data_type = 'mmpretrain.CIFAR10'
data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor',
    num_classes=10,
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    to_rgb=False)

train_pipeline = [
    dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmpretrain.PackInputs')
]
test_pipeline = [dict(type='mmpretrain.PackInputs')]

train_dataloader = dict(
    batch_size=500,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmpretrain.KFoldDataset', fold=0, num_splits=10, seed=0,
        dataset=dict(type=data_type, data_root=data_root, split='train', pipeline=train_pipeline)))
val_dataloader = dict(
    batch_size=500,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmpretrain.KFoldDataset', fold=0, num_splits=10, seed=0, test_mode=True,
        dataset=dict(type=data_type, data_root=data_root, split='train', pipeline=test_pipeline)))
test_dataloader = dict(
    batch_size=500,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=data_type, data_root=data_root, split='test', pipeline=test_pipeline))

val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, ))
test_evaluator = val_evaluator
