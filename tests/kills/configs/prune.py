_base_ = ['./training.py']

pruning = dict(
    checkpoint='sources/trained.pth',
    methods=dict(
        small=dict(saliency='magnitude', scope='layer'),
        fisher=dict(saliency='woodfisher', update='joint', fisher=dict(samples=30, damp=1e-3))),
    sparsities=[0.5, 0.8],
    exclude=['head.fc'],
    renormalizers=dict(reset=dict(type='reset', samples=64)))
