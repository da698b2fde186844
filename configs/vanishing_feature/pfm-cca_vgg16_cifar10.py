# By canonical correlations, with a relative ridge (published: absolute, 0.1). What features should look like is what the first net's do, as published.
_base_ = ['./pfm_vgg16_cifar10.py']

preserve_first = dict(matchers=dict(_delete_=True, CCA=dict(type='cca')))
