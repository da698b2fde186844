# The 24 networks of "Deep Model Reassembly" (Yang et al., NeurIPS 2022): 9 supervised ResNets and RegNets of
# torchvision, 3 self-supervised ResNet-50, 2 CNNs and 4 ViTs of timm, 2 self-supervised ViTs, 4 Swin of mmpretrain.
imagenet = dict(resize=256, crop=224, interpolation='bilinear')
bicubic = dict(resize=256, crop=224, interpolation='bicubic')
augreg = dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5], resize=248, crop=224, interpolation='bicubic')

openmmlab = 'https://download.openmmlab.com'
facebook = 'https://dl.fbaipublicfiles.com'
swin = f'{openmmlab}/mmclassification/v0/swin-transformer'

torchvision_names = [
    'resnet18', 'resnet50', 'resnet101', 'regnet_y_800mf', 'regnet_y_1_6gf', 'regnet_y_3_2gf', 'regnet_y_8gf',
    'regnet_y_16gf', 'regnet_y_32gf'
]
zoo = [
    dict(key=name, library='torchvision', model=name, weights='IMAGENET1K_V1', preprocess=imagenet)
    for name in torchvision_names
] + [
    dict(
        key='resnet50mocov2',
        library='torchvision',
        model='resnet50',
        weights=f'{facebook}/moco/moco_checkpoints/moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar',
        weights_prefix='module.encoder_q.',
        weights_drop=['fc.'],
        preprocess=imagenet),
    dict(
        key='resnet50byol',
        library='torchvision',
        model='resnet50',
        weights=f'{openmmlab}/mmselfsup/byol/byol_resnet50_8xb32-accum16-coslr-200e_in1k_20220225-5c8b2c2e.pth',
        weights_prefix='backbone.',
        weights_drop=['fc.'],
        preprocess=imagenet),
    dict(
        key='resnet50simclr',
        library='torchvision',
        model='resnet50',
        weights=f'{openmmlab}/mmselfsup/simclr/simclr_resnet50_8xb32-coslr-200e_in1k_20220428-46ef6bb9.pth',
        weights_prefix='backbone.',
        weights_drop=['fc.'],
        preprocess=imagenet),
    dict(
        key='swsl_resnext50_32x4d',
        library='timm',
        model='resnext50_32x4d',
        weights='fb_swsl_ig1b_ft_in1k',
        preprocess=imagenet),
    dict(
        key='mobilenetv3_large_100',
        library='timm',
        model='mobilenetv3_large_100',
        weights='ra_in1k',
        preprocess=bicubic),
] + [
    dict(
        key=f'vit_{size}_patch16_224',
        library='timm',
        model=f'vit_{size}_patch16_224',
        weights='augreg_in21k_ft_in1k',
        preprocess=augreg) for size in ('tiny', 'small', 'base', 'large')
] + [
    dict(
        key='vit_small_patch16_224mocov3',
        library='timm',
        model='vit_small_patch16_224',
        weights=f'{facebook}/moco-v3/vit-s-300ep/vit-s-300ep.pth.tar',
        weights_prefix='module.momentum_encoder.',
        weights_drop=['head.'],
        preprocess=bicubic),
    dict(
        key='vit_base_patch16_224mae',
        library='timm',
        model='vit_base_patch16_224',
        weights=f'{facebook}/mae/pretrain/mae_pretrain_vit_base.pth',
        weights_drop=['head.'],
        preprocess=bicubic),
] + [
    dict(
        key=f'swin_{size}_patch4_window7_224',
        library='mmpretrain',
        model='SwinTransformer',
        args=dict(arch=size, img_size=224, drop_path_rate=rate),
        weights=f'{swin}/{name}',
        weights_prefix='backbone.',
        preprocess=bicubic)
    for size, rate, name in (
        ('tiny', 0.2, 'swin_tiny_224_b16x64_300e_imagenet_20210616_090925-66df6be6.pth'),
        ('small', 0.3, 'convert/swin_small_patch4_window7_224-cc7a01c9.pth'),
        ('base', 0.5, 'convert/swin_base_patch4_window7_224_22kto1k-f967f799.pth'),
        ('large', 0.5, 'convert/swin_large_patch4_window7_224_22kto1k-5f0996db.pth'))
]
del torchvision_names
