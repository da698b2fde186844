_base_ = ['../_base_/datasets/cifar10.py', '../_base_/default_runtime.py', './_base_pair.py']

train_dataloader = dict(batch_size=128, batch_sampler=dict(type='ParallelBatchSampler', parts=2))
val_evaluator = dict(_delete_=True, type='NetAccuracy')
test_evaluator = dict(_delete_=True, type='NetAccuracy')
randomness = dict(seed=20)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=1))
