# Blocks of two networks of the digits; a pipeline says which networks these are.
_base_ = ['../_base_/default_runtime.py']

runner_type = 'DeRyRunner'
seed = 0

_preprocess = dict(mean=[78. / 255] * 3, std=[94. / 255] * 3, resize=8, crop=8)
zoo = [
    dict(
        key=key,
        library='local',
        model='CifarResNet',
        args=dict(depth=8),
        weights_prefix='backbone.',
        preprocess=_preprocess) for key in ('first', 'second')
]

data = dict(dataset=dict(type='Digits', split='train'), load=[], color_order='rgb')
features = dict(num_samples=256, minibatch=128)
similarity = dict(type='cka')
partition = dict(num_blocks=3, epsilon=0.4, restarts=10, bijective=True)
reassembly = dict(
    rules=dict(stem='cifar'),
    proxy=dict(type='ridge_probe'),
    num_batches=8,
    batch_size=32,
    num_candidates=12,
    finalists=4,
    top=2,
    num_classes=10,
    input_size=(8, 8),
    finetune='configs/quickstart/finetune_digits.py')
