# A network is trained, and a module of it learned and pruned.
_base_ = ['./nets.py']

stages = [
    _base_.stages[0],
    dict(
        name='module',
        networks=['a'],
        job=dict(type='modularize', classes=['3', '8'], ratio=0.2, epochs=2),
        test_dataloader=dict(
            **{key: value for key, value in _base_.test_dataloader.items() if key != 'dataset'},
            dataset=dict(type='ClassProblem', classes=['3', '8'], dataset=_base_.test_dataloader.dataset))),
    dict(name='sparse', networks=['module'], job=dict(type='prune', sparsity=0.9)),
]
