_base_ = ['./_base_logits.py', './_base_cifar10-5+5.py']

work_dir = 'work_dirs/{{ fileBasenameNoExtension }}/split${split_seed}_part${part}'
randomness = dict(seed='${100 * part + split_seed}')
model = dict(backbone=dict(width=64), head=dict(in_channels=256, num_classes=10))
