# What the reassembled nets are trained with.
_base_ = ['./_base_digits.py']

model = dict(
    backbone=dict(block_fixed=False),
    head=dict(loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))
