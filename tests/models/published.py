"""The block lists that were published for ImageNet, with what was published of them."""
RN50, RN101, RX50 = 'resnet50', 'resnet101', 'swsl_resnext50_32x4d'
SWIN_S, SWIN_B = 'swin_small_patch4_window7_224', 'swin_base_patch4_window7_224'


def _cnn(in_channels: int, out_channels: int, stride: int = 1) -> dict:
    return dict(input_channel=in_channels, output_channel=out_channels, mode='cnn2cnn', num_fc=0, num_conv=1,
                stride=stride)


def _cnn2vit(in_channels: int, out_channels: int) -> dict:
    return dict(input_channel=in_channels, output_channel=out_channels, mode='cnn2vit', num_fc=0, num_conv=1, stride=1)


def _vit(in_channels: int, out_channels: int) -> dict:
    return dict(input_channel=in_channels, output_channel=out_channels, mode='vit2vit', num_fc=1, num_conv=0)


DERY_4_10_3 = dict(
    base_channels=32,
    block_list=[
        ['regnet_y_16gf', 'trunk_output.block1.block1-0', 'trunk_output.block1.block1-1', 'pytorch'],
        ['mobilenetv3_large_100', 'blocks.2.2', 'blocks.2.2', 'mytimm'],
        ['regnet_y_800mf', 'trunk_output.block3.block3-3', 'trunk_output.block3.block3-7', 'pytorch'],
        ['regnet_y_1_6gf', 'trunk_output.block3.block3-15', 'trunk_output.block4.block4-1', 'pytorch'],
    ],
    adapter_list=[_cnn(224, 40), _cnn(40, 320), _cnn(320, 336)])
DERY_4_30_6 = dict(
    base_channels=64,
    block_list=[
        [RX50, 'layer1.0', 'layer1.2', 'mytimm'],
        [RN50, 'layer1.2', 'layer3.1', 'pytorch'],
        [RN50, 'layer2.2', 'layer2.2', 'pytorch'],
        [SWIN_S, 'stages.2.blocks.16', 'stages.3.blocks.1', 'mmcv'],
    ],
    adapter_list=[_cnn(256, 256), _cnn(1024, 512), _cnn2vit(512, 384)])
DERY_4_50_10 = dict(
    base_channels=64,
    block_list=[
        [RN50, 'layer1.0', 'layer1.1', 'pytorch'],
        ['regnet_y_3_2gf', 'trunk_output.block2.block2-1', 'trunk_output.block3.block3-1', 'pytorch'],
        [RN101, 'layer3.8', 'layer3.22', 'pytorch'],
        [RN50, 'layer3.4', 'layer4.2', 'pytorch'],
    ],
    adapter_list=[_cnn(256, 216, stride=2), _cnn(576, 1024), _cnn(1024, 1024)])
DERY_4_90_20 = dict(
    base_channels=64,
    block_list=[
        [RX50, 'layer1.0', 'layer1.2', 'mytimm'],
        [SWIN_S, 'stages.0.blocks.1', 'stages.0.blocks.1', 'mmcv'],
        [SWIN_S, 'stages.0.downsample', 'stages.2.blocks.15', 'mmcv'],
        [SWIN_B, 'stages.2.blocks.11', 'stages.3.blocks.1', 'mmcv'],
    ],
    adapter_list=[_cnn2vit(256, 96), _vit(96, 96), _vit(384, 512)])
DERY_4_20 = dict(
    base_channels=64,
    block_list=[
        [RX50, 'layer1.0', 'layer1.2', 'mytimm'],
        [RN50, 'layer1.2', 'layer3.1', 'pytorch'],
        ['vit_tiny_patch16_224', 'blocks.2', 'blocks.10', 'timm'],
        ['vit_small_patch16_224', 'blocks.9', 'blocks.11', 'timm'],
    ],
    adapter_list=[_cnn(256, 256), _cnn2vit(1024, 192), _vit(192, 384)])
