# By canonical correlations, the ridge relative (published: 0.1, absolute). Goals are the first net's statistics.
_base_ = ['./vgg16_pair_cifar10.py', './_base_preserve_first.py']

# Statistics need one order of the images, not one for each net.
train_dataloader = dict(batch_sampler=None)

preserve_first = dict(
    matchers=dict(_delete_=True, CCA=dict(type='cca', everywhere=True)),
    pairs={
        'seed 20': [
            'result://configs/vanishing_feature/vgg16_pair_cifar10.py#net1',
            'result://configs/vanishing_feature/vgg16_pair_cifar10.py#net2',
        ]
    },
    renormalizers={
        'REPAIR': dict(type='repair'),
        'RESCALE': dict(type='rescale'),
        'bias calibration': dict(type='bias_calibration'),
        'zero bias': dict(type='zero_bias'),
    })
