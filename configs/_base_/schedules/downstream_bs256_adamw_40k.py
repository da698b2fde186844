_base_ = ['./downstream_bs256_adamw_20k.py']

param_scheduler = dict(T_max=40000, end=40000)
train_cfg = dict(max_iters=40000)
