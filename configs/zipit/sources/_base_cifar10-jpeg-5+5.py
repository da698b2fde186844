# One half of CIFAR-10-JPEG's classes; the outputs are CLIP's embeddings of the class names.
_base_ = ['./_base_short_schedule.py', '../../_base_/datasets/cifar10_jpeg.py']

model = dict(
    head=dict(
        features='{{$MMREUSE_DATA_ROOT:data}}/text_features/clip_cifar.safetensors', key='cifar10'))
