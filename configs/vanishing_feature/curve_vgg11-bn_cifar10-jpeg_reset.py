# The whole line, as it is and after RESET alone.
#   python tools/vanishing_feature/curve.py configs/vanishing_feature/curve_vgg11-bn_cifar10-jpeg_reset.py
_base_ = ['./curve_vgg11-bn_cifar10-jpeg.py']

connectivity = dict(renormalizers=dict(_delete_=True, RESET=dict(type='reset')))
