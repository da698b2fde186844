_base_ = ['./_base_imagenet_superclass.py']

model = dict(
    alpha=2.0,
    in_classes=1000,
    out_classes=13,
    base=dict(
        checkpoint='{{$MMREUSE_DATA_ROOT:data}}/weights/resnet50-19c8e357.pth',
        model=dict(type='torchvision.models.resnet50')))
optim_wrapper = dict(optimizer=dict(lr=0.05))
