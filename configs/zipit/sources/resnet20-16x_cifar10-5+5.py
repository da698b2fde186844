_base_ = ['./_base_text_embedding.py', './_base_cifar10-5+5.py']

work_dir = 'work_dirs/{{ fileBasenameNoExtension }}/split{{$SPLIT_SEED:0}}_part{{$PART:0}}'
model = dict(
    backbone=dict(width=256), head=dict(in_channels=1024, key='cifar10', classes={{_base_.classes}}))
