_base_ = ['./_base_cifar10_binary.py']

model = dict(
    alpha=1.0,
    in_classes=10,
    out_classes=2,
    base=dict(
        checkpoint='{{$MMREUSE_DATA_ROOT:data}}/weights/cifar10_vgg16_bn-6ee7ea24.pt',
        model=dict(
            type='CifarVGG', depth=16, norm='bn', last_pool='max', hidden=512, num_classes=10)))
optim_wrapper = dict(optimizer=dict(lr=0.01))
