# Nothing is merged: both nets, side by side.
_base_ = ['./zipit_resnet20_fashion-mnist-5+5.py']

model = dict(stop=0.)
