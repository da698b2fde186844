# All ways of scoring and of making up for what goes, for nets small enough to be pruned as one block, where it hurts.
_base_ = ['./_base_sweep.py']

fisher = dict(samples=1000, damp=1e-5)
whole = dict(samples=1000, damp=1e-5, block='model')
pruning = dict(
    methods={
        'diagonal Fisher, global': dict(saliency='diagonal_fisher', scope='global', fisher=fisher),
        'WoodFisher, layer': dict(saliency='woodfisher', scope='layer', update='summed', fisher=fisher),
        'WoodFisher, global, joint': dict(saliency='woodfisher', scope='global', update='joint', fisher=fisher),
        'WoodFisher, one block': dict(saliency='woodfisher', scope='global', update='summed', fisher=whole),
        'WoodFisher, one block, joint': dict(saliency='woodfisher', scope='global', update='joint', fisher=whole),
    },
    sparsities=[0.5, 0.6, 0.7, 0.8, 0.9, 0.95],
    renormalizers=dict(reset=dict(type='reset', samples=2048), repair=dict(type='repair', samples=2048)))
