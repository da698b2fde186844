# The published recipe with text-embedding heads: SGD, learning rate up to 0.4 over five epochs, then down to zero at
# the end of a hundred, changed at every iteration; 500 images a batch.
# The class vectors are a file with the keys cifar10 and cifar100; tools/dataset_converters/make_text_features.py makes
# such files, to be named by --cfg-options model.head.features=FILE.
# --cfg-options part=1: the other half of the classes. split_seed=1: another division of the classes, and another
# initialisation; a merge with split_seed=1 takes these nets.
_base_ = ['../../_base_/default_runtime.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=20, shortcut='conv3x3'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='TextEmbeddingHead', features='{{$MMREUSE_DATA_ROOT:data}}/text_features/clip_cifar.safetensors',
        loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.4, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(type='LinearLR', start_factor=1, end_factor=0, begin=5, end=100, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=10)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=1))
