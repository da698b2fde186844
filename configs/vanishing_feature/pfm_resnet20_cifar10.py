_base_ = ['./resnet20_pair_cifar10.py', './_base_preserve_first.py']

# Statistics need one order of the images, not one for each net.
train_dataloader = dict(batch_sampler=None)

preserve_first = dict(
    pairs={
        'seed 20': [
            'result://configs/vanishing_feature/resnet20_pair_cifar10.py#net1',
            'result://configs/vanishing_feature/resnet20_pair_cifar10.py#net2',
        ]
    },
    renormalizers={'RESET': dict(type='reset')})
