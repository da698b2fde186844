# What the reassembled nets are trained with; their stitching layers start in closed form.
_base_ = ['./_base_digits.py']

model = dict(
    backbone=dict(block_fixed=False),
    head=dict(loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))
custom_hooks = [dict(type='StitchingInitHook', samples=512)]
