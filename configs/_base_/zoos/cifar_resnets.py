# ResNet-20, 32, 44 and 56 (option-A shortcuts), trained on the original CIFAR-10.
zoo = [
    dict(
        key=f'resnet{depth}',
        library='local',
        model='CifarResNet',
        args=dict(depth=depth, num_classes=10),
        weights=f'weights/cifar10_resnet{depth}.safetensors',
        weights_hash=f'sha256:{digits}',
        preprocess=dict(resize=32, crop=32))
    for depth, digits in ((20, 'ec4669a6afff67ef'), (32, 'bc74d4536dfb7bc7'), (44, 'b5be53093734f5bd'),
                          (56, '5cffe7e73370709b'))
]
