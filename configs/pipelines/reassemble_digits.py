# Blocks of two networks make a third, which is fine-tuned, pruned and written for ONNX Runtime and PyTorch.
_base_ = ['./_base_digits.py']

stages = [
    *_base_._nets,
    dict(
        name='reassembled',
        networks=['a', 'b'],
        job=dict(type='reassemble', config='configs/pipelines/dery_digits.py', samples=256)),
    dict(
        name='fine-tuned', networks=['reassembled'], job=dict(type='train', epochs=4, optimizer=_base_._optimizer)),
    dict(
        name='pruned',
        networks=['fine-tuned'],
        job=dict(type='prune', sparsity=0.5, renormalizers=['reset'])),
    dict(name='exported', networks=['pruned'], job=dict(type='export', files=['network.onnx', 'network.pt2'])),
]
