# A merged and a pruned network lend their blocks to a third, which is fine-tuned and written.
_base_ = ['./_base_digits.py']

stages = [
    *_base_._nets,
    dict(name='merged', networks=['a', 'b'], job=dict(type='merge', samples=512)),
    dict(name='pruned', networks=['a'], job=dict(type='prune', sparsity=0.5, renormalizers=['reset'])),
    dict(
        name='reassembled',
        networks=['merged', 'pruned'],
        job=dict(
            type='reassemble',
            config='configs/pipelines/dery_digits.py',
            options={'zoo.0.weights_prefix': 'trunk.backbone.'},
            samples=256)),
    dict(
        name='fine-tuned', networks=['reassembled'], job=dict(type='train', epochs=4, optimizer=_base_._optimizer)),
    dict(name='exported', networks=['fine-tuned'], job=dict(type='export', files=['network.onnx', 'network.pt2'])),
]
