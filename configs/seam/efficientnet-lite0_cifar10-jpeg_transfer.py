# What a CPU can do: CIFAR-10-JPEG with 64 pixels from the EfficientNet-Lite0 for ImageNet, on a tenth of the training
# images, in a few epochs of AdamW along a cosine; masks by saliencies and a budget. Output layers go on from the
# step before, where the publication begins anew: in so few epochs a random one would spoil the features first. States
# are chosen on a fiftieth of the training images; inheritance is measured on a tenth of the test images.
#   python tools/seam/finetune.py configs/seam/efficientnet-lite0_cifar10-jpeg_transfer.py
#       --stages head standard masks modular frozen random magnitude
#   python tools/seam/evaluate_robustness.py configs/seam/efficientnet-lite0_cifar10-jpeg_transfer.py
_base_ = ['../_base_/datasets/cifar10_jpeg.py', './_base_transfer.py']

model = dict(
    backbone=dict(type='mmpretrain.TIMMBackbone', model_name='tf_efficientnet_lite0'),
    head=dict(num_classes=10, in_channels=1280))
pretrained = '{{$MMREUSE_DATA_ROOT:data}}/weights/tf_efficientnet_lite0.safetensors'
_heads = dict(modular='../masks', frozen='../masks', standard='../head', random='../head', magnitude='../head')
_adamw = dict(optimizer=dict(_delete_=True, type='AdamW', lr=5e-4, weight_decay=1e-4))
_recipes = {
    **{name: dict(optim_wrapper=_adamw) for name in (*_heads, 'scratch')},
    'head': dict(optim_wrapper=dict(optimizer=dict(lr=0.01, momentum=0.9)), train_cfg=dict(max_epochs=4)),
    'masks': dict(optim_wrapper=dict(optimizer=dict(lr=0.005)), train_cfg=dict(max_epochs=4))}
_behind = dict(masks=[
    dict(type='MaskInitHook', head=None, samples=512),
    dict(type='MaskBudgetHook', ratio=0.4),
    dict(type='MaskThresholdHook')
])
variants = {
    name: dict(recipe, custom_hooks=[
        *(dict(hook, **({'head': _heads[name]} if name in _heads else {}))
          for hook in _base_.variants[name].custom_hooks if hook['type'] == 'TransferInitHook'),
        dict(type='ChannelsLastHook'),
        *_behind.get(name, [])])
    for name, recipe in _recipes.items()}
param_scheduler = dict(
    _delete_=True, type='CosineAnnealingLR', eta_min=0., by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(max_epochs=3)

data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3)
_resize = dict(type='Resize', scale=(64, 64), backend='pillow', interpolation='bicubic')
_augmented = [*_base_.train_pipeline[:-1], _resize, _base_.train_pipeline[-1]]
_plain = [_resize, *_base_.test_pipeline]
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dict(fold=1, num_splits=10, test_mode=True, dataset=dict(pipeline=_augmented)))
val_dataloader = dict(batch_size=100, num_workers=0, dataset=dict(num_splits=50, dataset=dict(pipeline=_plain)))
test_dataloader = dict(
    batch_size=100,
    num_workers=0,
    dataset=dict(
        _delete_=True,
        type='mmpretrain.KFoldDataset',
        fold=0,
        num_splits=10,
        seed=0,
        test_mode=True,
        dataset=dict(
            type='InMemoryImageFolder', data_root=_base_.data_root, data_prefix='test', pipeline=_plain)))

# Pixels lie within -1 and 1: 0.045 is 5.7 of 255 levels, and a clip at 2.2 cuts nothing off.
robustness = dict(
    teacher=pretrained,
    students=dict(frozen='frozen', random='random', magnitude='magnitude'),
    attacks=dict(
        _delete_=True,
        pgd=dict(type='feature_pgd', eps=0.045, step=0.0045, iterations=40),
        noise=dict(type='noise', eps=0.045),
        nothing=dict(type='noise', eps=0.),
        clip=dict(type='noise', eps=0., clip=2.2)))
