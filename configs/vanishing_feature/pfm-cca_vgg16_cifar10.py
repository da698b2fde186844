# By canonical correlations, the ridge relative (published: 0.1, absolute). Goals are the first net's statistics.
_base_ = ['./pfm_vgg16_cifar10.py']

preserve_first = dict(matchers=dict(_delete_=True, CCA=dict(type='cca')))
