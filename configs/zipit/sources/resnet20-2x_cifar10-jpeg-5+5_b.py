_base_ = ['./_base_cifar10-jpeg-5+5.py']

work_dir = 'work_dirs/zipit/{{ fileBasenameNoExtension }}_seed${split_seed}'
part = 1
