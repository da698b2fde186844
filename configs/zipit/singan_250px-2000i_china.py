# As published: 8 scales from 25 to 167 pixels of height, 2000 iterations each. Meant for a GPU.
_base_ = ['../_base_/default_runtime.py']

_scales, _steps = 8, 2000
model = dict(type='SinGAN', image_size=(427, 640), min_size=25, max_size=250, steps=_steps)

train_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='InfiniteSampler'),
    dataset=dict(type='SingleImage', image='china.jpg'))

optim_wrapper = dict(optimizer=dict(type='Adam', lr=5e-4, betas=(0.5, 0.999)))
# A tenth of the rate in the last fifth of each scale; the full one is back in the last step before `end`.
param_scheduler = [
    dict(type='ConstantLR', factor=0.1, begin=scale * _steps + _steps * 4 // 5, end=(scale + 1) * _steps + 1,
         by_epoch=False) for scale in range(_scales)]
train_cfg = dict(by_epoch=False, max_iters=_scales * _steps)

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=_steps))
log_processor = dict(by_epoch=False)
