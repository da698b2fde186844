# What jobs on networks share.
_base_ = ['../../../configs/_base_/default_runtime.py', '../../../configs/_base_/datasets/digits.py']

seed = 0
train_dataloader = dict(num_batch_per_epoch=8)
val_dataloader = dict(batch_size=128, num_batch_per_epoch=1)
test_dataloader = dict(batch_size=128)
