_base_ = ['./_base_tiny-imagenet32-100+100.py']

work_dir = 'work_dirs/zipit/{{ fileBasenameNoExtension }}_seed${split_seed}'
part = 1
