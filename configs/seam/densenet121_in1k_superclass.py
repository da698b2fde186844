# densenet121.pth: the state dict of torchvision's model; its own file has older names, which torchvision translates.
_base_ = ['./_base_imagenet_superclass.py']

model = dict(
    alpha=2.0,
    in_classes=1000,
    out_classes=13,
    base=dict(
        checkpoint='{{$MMREUSE_DATA_ROOT:data}}/weights/densenet121.pth',
        model=dict(type='torchvision.models.densenet121')))
optim_wrapper = dict(optimizer=dict(lr=0.1))
