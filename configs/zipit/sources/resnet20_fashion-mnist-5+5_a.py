_base_ = ['./_base_fashion-mnist-5+5.py']

work_dir = 'work_dirs/zipit/{{ fileBasenameNoExtension }}_seed${split_seed}'
