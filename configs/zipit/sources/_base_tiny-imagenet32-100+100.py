# One half of Tiny-ImageNet-32's classes; the outputs are MiniLM's embeddings of the class names.
_base_ = ['./_base_short_schedule.py', '../../_base_/datasets/tiny_imagenet32.py']

model = dict(
    backbone=dict(width=16),
    head=dict(
        in_channels=64,
        features='{{$MMREUSE_DATA_ROOT:data}}/text_features/minilm_tiny-imagenet32.safetensors', key='tiny_imagenet32'))
