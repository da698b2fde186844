_base_ = ['./imagenet_bs1024_adamw_100e.py']

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, T_max=300, begin=0, end=300, by_epoch=True, convert_to_iter_based=True)
]

train_cfg = dict(max_epochs=300)
