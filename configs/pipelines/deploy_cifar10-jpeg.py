# ResNet-20 and ResNet-56 as they are and with half of the channels inside their blocks, which is half of the
# multiply-accumulates, calibrated on 512 images without labels; each in float32 and in integers of 8 bits.
# `tools/deployment/table.py` measures them on inference engines.
_base_ = ['../_base_/default_runtime.py', '../_base_/datasets/cifar10_jpeg.py']

runner_type = 'PipelineRunner'
seed = 0
controls = False  # see shrink_cifar10-jpeg.py, and configs/woodfisher

_weights = '{{$MMREUSE_DATA_ROOT:data}}/weights/cifar10_resnet'
_classes = list(range(10))
# Only the images that are used are decoded.
_load = dict(type='mmpretrain.LoadImageFromFile')
_train, _test = [
    dict(
        type='ClassProblem',
        classes=_classes,
        shots=shots,
        dataset=dict(
            type='mmpretrain.CustomDataset',
            data_root=_base_.data_root,
            data_prefix=split,
            pipeline=[_load, *_base_.test_pipeline])) for split, shots in (('train', 52), ('test', 50))
]
train_dataloader = dict(num_workers=0, dataset=dict(_delete_=True, **_train))
val_dataloader = None
val_evaluator = None
test_dataloader = dict(num_workers=0, dataset=dict(_delete_=True, **_test))

_int8 = dict(type='quantize', samples=256)
stages = []
for _depth in (20, 56):
    _net = dict(base=dict(type='CifarResNet', depth=_depth, num_classes=10), weights=f'{_weights}{_depth}.safetensors')
    stages += [
        dict(name=f'resnet{_depth}', networks=[_net], job=dict(type='export')),
        dict(name=f'resnet{_depth}-half', networks=[_net], job=dict(
            type='prune_channels', target=0.5, cost='channels', exclude=['layer1'],
            renormalizers=[dict(type='calibrate', samples=512)])),
        dict(name=f'resnet{_depth}-int8', networks=[f'resnet{_depth}'], job=_int8),
        dict(name=f'resnet{_depth}-half-int8', networks=[f'resnet{_depth}-half'], job=_int8),
    ]
