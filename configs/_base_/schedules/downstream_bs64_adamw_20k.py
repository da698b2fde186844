_base_ = ['./downstream_bs256_adamw_20k.py']

optim_wrapper = dict(optimizer=dict(lr=6.25e-5))
auto_scale_lr = dict(base_batch_size=64)
