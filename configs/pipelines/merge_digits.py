# Two networks become one without training, of which the part that two digits need is kept, compacted and written.
_base_ = ['./_base_digits.py']

_classes = ['3', '8']
stages = [
    *_base_._nets,
    dict(name='merged', networks=['a', 'b'], job=dict(type='merge', samples=512, renormalizers=[])),
    dict(name='renormalized', networks=['merged'], job=dict(type='renormalize', renormalizers=['reset'])),
    dict(
        name='module',
        networks=['renormalized'],
        job=dict(type='modularize', classes=_classes, ratio=0.2, epochs=4),
        test_dataloader=dict(
            **{key: value for key, value in _base_.test_dataloader.items() if key != 'dataset'},
            dataset=dict(type='ClassProblem', classes=_classes, dataset=_base_.test_dataloader.dataset))),
    dict(name='compacted', networks=['module'], job=dict(type='compact')),
    dict(name='exported', networks=['compacted'], job=dict(type='export', files=['network.onnx', 'network.pt2'])),
]
