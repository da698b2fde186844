_base_ = ['./_base_logits_vgg.py', './_base_cifar100-50+50.py']

work_dir = 'work_dirs/{{ fileBasenameNoExtension }}/split${split_seed}_part${part}'
randomness = dict(seed='${100 * part + split_seed}')
model = dict(backbone=dict(depth=16, width=64), head=dict(in_channels=512, num_classes=100))
