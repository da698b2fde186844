_base_ = ['../_base_/datasets/cifar10.py', '../_base_/default_runtime.py', './_base_pair.py']

data_root = '{{$MMREUSE_DATA_ROOT:data}}/cifar100'
data_type = 'mmpretrain.CIFAR100'
data_preprocessor = dict(num_classes=100)
train_dataloader = dict(
    batch_size=128,
    batch_sampler=dict(type='ParallelBatchSampler', parts=2),
    dataset=dict(dataset=dict(type=data_type, data_root=data_root)))
val_dataloader = dict(dataset=dict(dataset=dict(type=data_type, data_root=data_root)))
test_dataloader = dict(dataset=dict(type=data_type, data_root=data_root))
val_evaluator = dict(_delete_=True, type='NetAccuracy')
test_evaluator = dict(_delete_=True, type='NetAccuracy')
randomness = dict(seed=20)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=1))
