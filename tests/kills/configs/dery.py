# Features, similarity, partition and reassembly of two networks.
_base_ = ['../../../configs/pipelines/dery_digits.py']

zoo = [
    dict(
        key=key,
        library='local',
        model='CifarResNet',
        args=dict(depth=8, width=8),
        weights=f'./sources/{key}.safetensors',
        weights_prefix='backbone.',
        preprocess=dict(mean=[78. / 255] * 3, std=[94. / 255] * 3, resize=8, crop=8)) for key in 'ab'
]
features = dict(num_samples=128, minibatch=64)
reassembly = dict(num_batches=2, num_candidates=6, finalists=3)
