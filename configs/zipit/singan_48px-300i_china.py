# For a look on one CPU core in about two minutes: 4 scales from 18 to 32 pixels of height, 300 iterations each.
_base_ = ['./singan_250px-2000i_china.py']

_scales, _steps = 4, 300
model = dict(min_size=18, max_size=48, steps=_steps)
param_scheduler = [
    dict(type='ConstantLR', factor=0.1, begin=scale * _steps + _steps * 4 // 5, end=(scale + 1) * _steps + 1,
         by_epoch=False) for scale in range(_scales)]
train_cfg = dict(max_iters=_scales * _steps)
default_hooks = dict(checkpoint=dict(interval=_steps))
