_base_ = ['./training.py']

model = dict(type='NarrowClassifier', input_size=(3, 8, 8))
channels = dict(
    checkpoint='sources/trained.pth',
    methods=dict(small=dict(saliency='magnitude', multiple=4)),
    targets=[0.7], engines=[],
    renormalizers=dict(reset=dict(type='reset', samples=64), calibrate=dict(type='calibrate', samples=128)))
