_base_ = ['./vit_digits-5+5_a.py']

work_dir = 'work_dirs/zipit/{{ fileBasenameNoExtension }}_seed${split_seed}'
part = 1
