# Two networks are trained, merged and modularized; the module is pruned and written.
_base_ = ['./nets.py']

stages = [
    *_base_.stages,
    dict(name='merged', networks=['a', 'b'], job=dict(type='merge', samples=256, renormalizers=['reset'])),
    dict(
        name='module',
        networks=['merged'],
        job=dict(type='modularize', classes=['3', '8'], ratio=0.2, epochs=2),
        test_dataloader=dict(
            **{key: value for key, value in _base_.test_dataloader.items() if key != 'dataset'},
            dataset=dict(type='ClassProblem', classes=['3', '8'], dataset=_base_.test_dataloader.dataset))),
    dict(name='narrow', networks=['a'], job=dict(type='prune_channels', target=0.7)),
    dict(name='tuned', networks=['narrow'], job=dict(type='train', epochs=2, optimizer=_base_._optimizer)),
    dict(name='exported', networks=['tuned'], job=dict(type='export', files=['network.onnx'])),
]
