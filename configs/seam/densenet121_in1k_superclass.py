_base_ = ['./_base_imagenet_superclass.py']

model = dict(
    alpha=2.0,
    in_classes=1000,
    out_classes=13,
    base=dict(
        checkpoint='torchvision://densenet121.imagenet1k_v1',
        model=dict(type='torchvision.models.densenet121')))
optim_wrapper = dict(optimizer=dict(lr=0.1))
