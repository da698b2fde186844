_base_ = ['./_base_imagenet_superclass.py']

model = dict(
    alpha=2.0,
    in_classes=1000,
    out_classes=13,
    base=dict(
        checkpoint='{{$MMREUSE_DATA_ROOT:data}}/weights/mixer_b16_224.safetensors',
        model=dict(type='timm.create_model', model_name='mixer_b16_224')))
optim_wrapper = dict(optimizer=dict(lr=0.05))
# What the published weights were trained with; ImageNet's usual statistics cost accuracy.
data_preprocessor = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
