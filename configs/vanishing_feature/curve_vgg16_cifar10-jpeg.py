#   python tools/vanishing_feature/curve.py configs/vanishing_feature/curve_vgg16_cifar10-jpeg.py
_base_ = ['./vgg16_pair_cifar10-jpeg.py', './_base_connectivity.py']

# Statistics need one order of the pictures, not one for each net.
train_dataloader = dict(batch_sampler=None)

connectivity = dict(
    pairs={
        'seed 0': [
            'work_dirs/vgg16_pair_cifar10-jpeg/net1_epoch_6.pth',
            'work_dirs/vgg16_pair_cifar10-jpeg/net2_epoch_6.pth',
        ]
    },
    renormalizers={
        'REPAIR': dict(type='repair'),
        'RESCALE': dict(type='rescale'),
        'RESHIFT': dict(type='reshift'),
        'sequential REPAIR': dict(type='repair', order='sequential'),
        'closed-form REPAIR': dict(type='closed_form_repair'),
        'bias calibration': dict(type='bias_calibration'),
        'bias removal': dict(type='bias_removal'),
        'zero bias': dict(type='zero_bias'),
        'auto': dict(type='auto', candidates=['repair', 'rescale', 'bias_calibration']),
    })
