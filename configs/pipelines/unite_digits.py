# Modules of two networks, for two digits each, merged into one classifier of all four.
_base_ = ['./_base_digits.py']

_low, _high = ['0', '1'], ['6', '7']
_test = {key: value for key, value in _base_.test_dataloader.items() if key != 'dataset'}
_train = {key: value for key, value in _base_.train_dataloader.items() if key != 'dataset'}
_digits = _base_.test_dataloader.dataset
stages = [
    *_base_._nets,
    dict(
        name='low',
        networks=['a'],
        job=dict(type='modularize', classes=_low, ratio=0.5, epochs=4),
        test_dataloader=dict(**_test, dataset=dict(type='ClassProblem', classes=_low, dataset=_digits))),
    dict(
        name='high',
        networks=['b'],
        job=dict(type='modularize', classes=_high, ratio=0.5, epochs=4),
        test_dataloader=dict(**_test, dataset=dict(type='ClassProblem', classes=_high, dataset=_digits))),
    dict(
        name='united',
        networks=['low', 'high'],
        job=dict(type='unite', samples=256),
        train_dataloader=dict(
            **_train, dataset=dict(type='ClassProblem', classes=_low + _high, dataset=_base_.train_dataloader.dataset)),
        test_dataloader=dict(**_test, dataset=dict(type='ClassProblem', classes=_low + _high, dataset=_digits))),
    dict(name='exported', networks=['united'], job=dict(type='export', files=['network.onnx', 'network.pt2'])),
]
