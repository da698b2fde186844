_base_ = ['./plain-resnet20_pair_cifar10.py', './_base_preserve_first.py']

# Statistics need one order of the pictures, not one for each net.
train_dataloader = dict(batch_sampler=None)

preserve_first = dict(
    pairs={
        'seed 20': [
            'work_dirs/plain-resnet20_pair_cifar10/net1_epoch_160.pth',
            'work_dirs/plain-resnet20_pair_cifar10/net2_epoch_160.pth',
        ]
    },
    renormalizers={
        'REPAIR': dict(type='repair'),
        'RESCALE': dict(type='rescale'),
        'bias calibration': dict(type='bias_calibration'),
        'zero bias': dict(type='zero_bias'),
    })
