# A training whose steps depend on the images of all processes together: batch norms would see those of their own alone.
_base_ = ['./training.py']

model = dict(backbone=dict(norm='ln'))
