_base_ = ['./_base_cifar100_binary.py']

model = dict(
    alpha=1.5,
    in_classes=100,
    out_classes=2,
    base=dict(
        checkpoint='{{$MMREUSE_DATA_ROOT:data}}/weights/cifar100_vgg16_bn-7d8c4031.pt',
        model=dict(
            type='CifarVGG', depth=16, norm='bn', last_pool='max', hidden=512, num_classes=100)))
optim_wrapper = dict(optimizer=dict(lr=0.05))
