# MNIST, unpacked idx files in mnist/ (downloaded where they are missing): 28x28, one channel, no augmentation.
# A tenth of the training images is held out for validation.
data_root = '{{$MMREUSE_DATA_ROOT:data}}/mnist'
data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', num_classes=10, mean=[33.32], std=[78.57])

pipeline = [dict(type='mmpretrain.PackInputs')]
train_pipeline = pipeline
test_pipeline = pipeline

train_dataloader = dict(
    batch_size=256,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmpretrain.KFoldDataset', fold=0, num_splits=10, seed=0,
        dataset=dict(type='mmpretrain.MNIST', data_root=data_root, split='train', pipeline=pipeline)))
val_dataloader = dict(
    batch_size=256,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmpretrain.KFoldDataset', fold=0, num_splits=10, seed=0, test_mode=True,
        dataset=dict(type='mmpretrain.MNIST', data_root=data_root, split='train', pipeline=pipeline)))
test_dataloader = dict(
    batch_size=256,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    # mmpretrain reads the test files where test_mode says so, whatever the split.
    dataset=dict(type='mmpretrain.MNIST', data_root=data_root, split='test', test_mode=True, pipeline=pipeline))

val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, ))
test_evaluator = val_evaluator
