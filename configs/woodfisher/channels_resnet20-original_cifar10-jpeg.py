# Channels of a ResNet-20 that was trained on the original CIFAR-10, removed and refitted on 400 images without labels.
# Its shortcuts pad with zeros, so that the insides of blocks and the stream of the first stage shrink, which the other
# stages carry on.
#   python tools/model_converters/plain_to_classifier.py configs/woodfisher/channels_resnet20-original_cifar10-jpeg.py \
#     data/weights/cifar10_resnet20.safetensors --out work_dirs/weights/resnet20-original.safetensors
#   python tools/pruning/prune_channels.py configs/woodfisher/channels_resnet20-original_cifar10-jpeg.py
_base_ = ['./_base_channels.py']

model = dict(backbone=dict(type='CifarResNet', depth=20), head=dict(num_classes=10, in_channels=64))
channels = dict(
    checkpoint='work_dirs/weights/resnet20-original.safetensors',
    methods=dict(_delete_=True, magnitude=dict(saliency='magnitude')),
    targets=[0.7, 0.5, 0.3],
    renormalizers=dict(
        _delete_=True, reset=dict(type='reset', samples=400), repair=dict(type='repair', samples=400),
        calibrate=dict(type='calibrate', samples=400)),
    engines=[])
