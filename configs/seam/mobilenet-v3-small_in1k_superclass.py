_base_ = ['./_base_imagenet_superclass.py']

model = dict(
    alpha=2.0,
    in_classes=1000,
    out_classes=13,
    base=dict(
        checkpoint='torchvision://mobilenet_v3_small.imagenet1k_v1',
        model=dict(type='torchvision.models.mobilenet_v3_small')))
optim_wrapper = dict(optimizer=dict(lr=0.01))
