# From the trained ResNet-56 to a network that costs what ResNet-20 does: pruned, fine-tuned on 200 images per class,
# written for ONNX Runtime and PyTorch, and measured beside ResNet-20 on 50 test images per class.
_base_ = ['../_base_/default_runtime.py', '../_base_/datasets/cifar10_jpeg.py']

runner_type = 'PipelineRunner'
seed = 0

_weights = '{{$MMREUSE_DATA_ROOT:data}}/weights/cifar10_resnet'
_classes = list(range(10))
# Only the images that are used are decoded.
_load = dict(type='mmpretrain.LoadImageFromFile')
_train = dict(
    type='mmpretrain.CustomDataset',
    data_root=_base_.data_root,
    data_prefix='train',
    pipeline=[_load, *_base_.train_pipeline])
_test = dict(
    type='mmpretrain.CustomDataset',
    data_root=_base_.data_root,
    data_prefix='test',
    pipeline=[_load, *_base_.test_pipeline])
train_dataloader = dict(
    num_workers=0,
    dataset=dict(_delete_=True, type='ClassProblem', classes=_classes, shots=200, dataset=_train))
val_dataloader = None
val_evaluator = None
test_dataloader = dict(
    num_workers=0, dataset=dict(_delete_=True, type='ClassProblem', classes=_classes, shots=50, dataset=_test))

_nets = {
    depth: dict(base=dict(type='CifarResNet', depth=depth, num_classes=10), weights=f'{_weights}{depth}.safetensors')
    for depth in (20, 56)
}
_files = dict(type='export', files=['network.onnx', 'network.pt2'])
stages = [
    dict(name='resnet20', networks=[_nets[20]], job=_files),
    dict(
        name='pruned',
        networks=[_nets[56]],
        job=dict(type='prune_channels', target=0.326, renormalizers=[dict(type='calibrate', samples=512)])),
    dict(
        name='fine-tuned',
        networks=['pruned'],
        job=dict(
            type='train', epochs=3, optimizer=dict(type='SGD', lr=0.02, momentum=0.9, nesterov=True,
                                                   weight_decay=5e-4))),
    dict(name='exported', networks=['fine-tuned'], job=_files),
]
