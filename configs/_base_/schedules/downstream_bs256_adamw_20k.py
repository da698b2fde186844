# Downstream recipe of deep model reassembly: lr = 5e-4 * 256 / 512, cosine to zero, no warm-up, averaged weights.
# Validation is on the test set, as published, so nothing is selected by it: the last checkpoint counts.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale=512.,
    optimizer=dict(type='AdamW', lr=2.5e-4, weight_decay=0.05, eps=1e-8, betas=(0.9, 0.999)),
    paramwise_cfg=dict(norm_decay_mult=0., bypass_duplicate=True))

param_scheduler = dict(type='CosineAnnealingLR', eta_min=0., T_max=20000, begin=0, end=20000, by_epoch=False)

train_cfg = dict(by_epoch=False, max_iters=20000, val_interval=2000)
val_cfg = dict()
test_cfg = dict()
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type='EMAHook', momentum=5e-4)]

auto_scale_lr = dict(base_batch_size=256)
