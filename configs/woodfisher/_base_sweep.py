# The published one-shot sweep: four saliencies, Fishers of 1000 images. Configs add the renormalizers that fit.
fisher = dict(samples=1000, damp=1e-5)
pruning = dict(
    methods={
        'magnitude, layer': dict(saliency='magnitude', scope='layer'),
        'magnitude, global': dict(saliency='magnitude', scope='global'),
        'diagonal Fisher, layer': dict(saliency='diagonal_fisher', scope='layer', fisher=fisher),
        'WoodFisher, global': dict(saliency='woodfisher', scope='global', update='summed', fisher=fisher),
    },
    sparsities=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
