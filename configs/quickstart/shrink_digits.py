# The ResNet of resnet_digits.py at 15 % of its multiply-accumulates, refitted without labels, as an ONNX file.
_base_ = ['./_base_digits.py']

runner_type = 'PipelineRunner'
seed = 0

stages = [
    dict(name='pruned', networks=['configs/quickstart/resnet_digits.py'],
         job=dict(type='prune_channels', target=0.15, renormalizers=['calibrate'])),
    dict(name='exported', networks=['pruned'], job=dict(type='export', files=['network.onnx'])),
]
