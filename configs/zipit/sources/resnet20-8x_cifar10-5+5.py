_base_ = ['./_base_text_embedding.py', './_base_cifar10-5+5.py']

work_dir = 'work_dirs/{{ fileBasenameNoExtension }}/split${split_seed}_part${part}'
randomness = dict(seed='${100 * part + split_seed}')
model = dict(
    backbone=dict(width=128), head=dict(in_channels=512, key='cifar10', classes={{_base_.classes}}))
