_base_ = ['./_base_text_embedding.py', './_base_cifar100-50+50.py']

work_dir = 'work_dirs/{{ fileBasenameNoExtension }}/split{{$SPLIT_SEED:0}}_part{{$PART:0}}'
model = dict(
    backbone=dict(width=32), head=dict(in_channels=128, key='cifar100', classes={{_base_.classes}}))
