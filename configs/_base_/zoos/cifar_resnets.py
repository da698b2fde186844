# ResNet-20, 32, 44 and 56 (option-A shortcuts), trained on the original CIFAR-10.
zoo = [
    dict(
        key=f'resnet{depth}',
        library='local',
        model='CifarResNet',
        args=dict(depth=depth, num_classes=10),
        weights=f'weights/cifar10_resnet{depth}.safetensors',
        preprocess=dict(resize=32, crop=32)) for depth in (20, 32, 44, 56)
]
