#   python tools/vanishing_feature/curve.py configs/vanishing_feature/curve_vgg11-bn_cifar10-jpeg.py
_base_ = ['./vgg11-bn_pair_cifar10-jpeg.py', './_base_connectivity_batch-norm.py']

# Statistics need one order of the images, not one for each net.
train_dataloader = dict(batch_sampler=None)

connectivity = dict(
    pairs={
        'seed 0': [
            'result://configs/vanishing_feature/vgg11-bn_pair_cifar10-jpeg.py#net1',
            'result://configs/vanishing_feature/vgg11-bn_pair_cifar10-jpeg.py#net2',
        ]
    })
