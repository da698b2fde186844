#   python tools/vanishing_feature/preserve_first.py configs/vanishing_feature/pfm_vgg11-bn_cifar10-jpeg.py
_base_ = ['./vgg11-bn_pair_cifar10-jpeg.py', './_base_preserve_first.py']

# Statistics need one order of the images, not one for each net.
train_dataloader = dict(batch_sampler=None)

preserve_first = dict(
    pairs={
        'seed 0': [
            'result://configs/vanishing_feature/vgg11-bn_pair_cifar10-jpeg.py#net1',
            'result://configs/vanishing_feature/vgg11-bn_pair_cifar10-jpeg.py#net2',
        ]
    },
    renormalizers={'RESET': dict(type='reset')})
