# By canonical correlations; without a reset of the batch norms, accuracy is that of chance.
_base_ = ['./vgg16-bn_pair_cifar10.py', './_base_preserve_first.py']

# Statistics need one order of the images, not one for each net.
train_dataloader = dict(batch_sampler=None)

preserve_first = dict(
    matchers=dict(_delete_=True, CCA=dict(type='cca', everywhere=True)),
    pairs={
        'seed 20': [
            'result://configs/vanishing_feature/vgg16-bn_pair_cifar10.py#net1',
            'result://configs/vanishing_feature/vgg16-bn_pair_cifar10.py#net2',
        ]
    },
    renormalizers={'RESET': dict(type='reset')})
