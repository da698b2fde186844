# The network of the 20 M budget, published for downstream data sets only.
_base_ = ['./dery.py']

model = dict(
    backbone=dict(
        base_channels=64,
        block_list=[
            dict(model='swsl_resnext50_32x4d', first='layer1.0', last='layer1.2'),
            dict(model='resnet50', first='layer1.2', last='layer3.1'),
            dict(model='vit_tiny_patch16_224', first='blocks.2', last='blocks.10'),
            dict(model='vit_small_patch16_224', first='blocks.9', last='blocks.11')
        ],
        adapter_list=[
            dict(mode='cnn2cnn', in_channels=256, out_channels=256),
            dict(mode='cnn2vit', in_channels=1024, out_channels=192),
            dict(mode='vit2vit', in_channels=192, out_channels=384, num_conv=0, num_fc=1)
        ]),
    head=dict(in_channels=384))
