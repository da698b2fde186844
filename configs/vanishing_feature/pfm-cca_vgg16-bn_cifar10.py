# By canonical correlations; without a reset of the batch norms, accuracy is that of chance.
_base_ = ['./pfm_vgg16-bn_cifar10.py']

preserve_first = dict(matchers=dict(_delete_=True, CCA=dict(type='cca')))
