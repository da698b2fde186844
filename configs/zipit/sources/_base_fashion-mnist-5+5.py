# One half of Fashion-MNIST's classes; the outputs are MiniLM's embeddings of the class names.
_base_ = ['./_base_short_schedule.py', '../../_base_/datasets/fashion_mnist.py']

model = dict(
    backbone=dict(width=16, in_channels=1),
    head=dict(
        in_channels=64,
        features='{{$MMREUSE_DATA_ROOT:data}}/text_features/minilm_fashion-mnist.safetensors', key='fashion_mnist'))
