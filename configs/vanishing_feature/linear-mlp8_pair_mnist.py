# Eight linear layers, whose features vanish at the midpoint. Published: weights from N(0, 0.002^2), 5 epochs of Adam.
_base_ = ['../_base_/datasets/mnist.py', '../_base_/default_runtime.py', './_base_pair.py']

small = dict(type='Normal', layer='Linear', std=0.002)
model = dict(
    classifier=dict(
        backbone=dict(type='LinearMLP', depth=8, width=32, init_std=0.002),
        neck=None,
        head=dict(num_classes=10, in_channels=32, init_cfg=small)))

train_dataloader = dict(batch_sampler=dict(type='ParallelBatchSampler', parts=2))
val_evaluator = dict(_delete_=True, type='NetAccuracy')
test_evaluator = dict(_delete_=True, type='NetAccuracy')

optim_wrapper = dict(optimizer=dict(_delete_=True, type='Adam', lr=1e-2, weight_decay=1e-4))
param_scheduler = None
train_cfg = dict(max_epochs=5, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=1))
