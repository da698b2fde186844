# The same with four further networks that the paper's code compares. Of a fifth, trained on chest X-rays, that code
# drops the stem, which takes one channel, and leaves a random one: its features say nothing.
_base_ = ['./dery_paper-zoo_in1k.py']

zoo = _base_.zoo + [
    # No single file to fetch: of the archive of pretrained models of NeWT (github.com/visipedia/newt).
    dict(
        key='resnet50inat2021',
        library='torchvision',
        model='resnet50',
        weights='weights/inat2021_supervised_large.pth.tar',
        weights_drop=['fc.'],
        preprocess=_base_.imagenet),
    dict(
        key='vit_base_patch16_224mocov3',
        library='timm',
        model='vit_base_patch16_224',
        weights='https://dl.fbaipublicfiles.com/moco-v3/vit-b-300ep/vit-b-300ep.pth.tar',
        weights_prefix='module.momentum_encoder.',
        weights_drop=['head.'],
        preprocess=_base_.bicubic),
    dict(
        key='mobilenetv3_small_100',
        library='timm',
        model='mobilenetv3_small_100',
        weights='lamb_in1k',
        preprocess=_base_.bicubic),
    dict(
        key='tf_mobilenetv3_large_075',
        library='timm',
        model='tf_mobilenetv3_large_075',
        weights='in1k',
        preprocess=dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5], resize=256, crop=224, interpolation='bicubic')),
]
