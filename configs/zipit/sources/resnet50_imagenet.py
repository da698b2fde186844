# All classes. INIT_SEED=1 in the environment: another initialisation.
_base_ = ['./_base_imagenet.py']

work_dir = 'work_dirs/{{ fileBasenameNoExtension }}/seed{{$INIT_SEED:0}}'
randomness = dict(seed=int('{{$INIT_SEED:0}}'))
