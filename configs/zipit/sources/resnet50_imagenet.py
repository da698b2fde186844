# All classes. --cfg-options init_seed=1: another initialisation.
_base_ = ['./_base_imagenet.py']

init_seed = 0
work_dir = 'work_dirs/{{ fileBasenameNoExtension }}/seed${init_seed}'
randomness = dict(seed='${init_seed}')
