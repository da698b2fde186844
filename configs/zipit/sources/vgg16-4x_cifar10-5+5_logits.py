_base_ = ['./_base_logits_vgg.py', './_base_cifar10-5+5.py']

work_dir = 'work_dirs/{{ fileBasenameNoExtension }}/split${split_seed}_part${part}'
randomness = dict(seed='${100 * part + split_seed}')
model = dict(backbone=dict(depth=16, width=256), head=dict(in_channels=2048, num_classes=10))
