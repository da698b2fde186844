# Nothing is merged: both nets, side by side.
_base_ = ['./zipit_resnet20_tiny-imagenet32-100+100.py']

model = dict(stop=0.)
