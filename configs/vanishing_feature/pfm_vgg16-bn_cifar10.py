_base_ = ['./vgg16-bn_pair_cifar10.py', './_base_preserve_first.py']

# Statistics need one order of the pictures, not one for each net.
train_dataloader = dict(batch_sampler=None)

preserve_first = dict(
    pairs={
        'seed 20': [
            'work_dirs/vgg16-bn_pair_cifar10/net1_epoch_160.pth',
            'work_dirs/vgg16-bn_pair_cifar10/net2_epoch_160.pth',
        ]
    },
    renormalizers={'RESET': dict(type='reset')})
