# A superclass of ImageNet with an EfficientNet-Lite0, on a set of one image a class: it shows that the machinery runs
# on such a network, not how accurate a module is. Training, choice and test use the same images, the latter two
# without augmentation, and the network has seen them.
#   python tools/seam/reengineer.py configs/seam/efficientnet-lite0_1000-pictures_superclass.py \
#       --superclasses imagenet --targets bird
_base_ = ['./_base_module.py']

target = 'bird'
_problem = dict(type='ClassProblem', classes=dict(of='imagenet', name='${target}'))
_pictures = dict(type='FlatImageFolder', data_root='{{$MMREUSE_DATA_ROOT:data}}/imagenet1000_sample')
_load = dict(type='LoadImageFromFile')
_pack = dict(type='mmpretrain.PackInputs')
_plain = dict(
    **_problem,
    dataset=dict(
        **_pictures,
        pipeline=[
            _load,
            dict(type='mmpretrain.ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
            dict(type='CenterCrop', crop_size=224),
            _pack,
        ]))
_augmented = dict(
    **_problem,
    dataset=dict(
        **_pictures,
        pipeline=[
            _load,
            dict(type='mmpretrain.RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            _pack,
        ]))
_loader = dict(batch_size=16, num_workers=2)
train_dataloader = dict(**_loader, sampler=dict(type='DefaultSampler', shuffle=True), dataset=_augmented)
val_dataloader = dict(**_loader, sampler=dict(type='DefaultSampler', shuffle=False), dataset=_plain)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, ))
test_evaluator = val_evaluator

data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor', num_classes=59, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
model = dict(
    base=dict(
        checkpoint='{{$MMREUSE_DATA_ROOT:data}}/weights/tf_efficientnet_lite0.safetensors',
        model=dict(type='timm.create_model', model_name='tf_efficientnet_lite0')),
    in_classes=1000,
    out_classes=59)
train_cfg = dict(max_epochs=30)

# So few images bear no fewer weights: half of them stay.
custom_hooks = [
    dict(type='MaskInitHook', head='select'),
    dict(type='MaskBudgetHook', ratio=0.5, end=0.6),
    dict(type='ModuleSelectionHook', max_ratio=0.5)
]

modularization = dict(
    targets=dict(bird=dict(classes=dict(of='imagenet', name='bird'))),
    modules='work_dirs/{{ fileBasenameNoExtension }}/{target}/selection.pth')
