# A network loses a third of its computation, gets its statistics back, and is written.
_base_ = ['./_base_digits.py']

stages = [
    _base_._nets[0],
    dict(name='pruned', networks=['a'], job=dict(type='prune_channels', target=0.67)),
    dict(name='renormalized', networks=['pruned'], job=dict(type='renormalize', renormalizers=['reset'])),
    dict(name='exported', networks=['renormalized'], job=dict(type='export', files=['network.onnx', 'network.pt2'])),
]
