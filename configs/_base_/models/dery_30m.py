# DeRy(4, 30, 6): 24.89 M parameters, 4.47 GFLOPs.
_base_ = ['./dery.py']

model = dict(
    backbone=dict(
        base_channels=64,
        block_list=[
            dict(model='swsl_resnext50_32x4d', first='layer1.0', last='layer1.2'),
            dict(model='resnet50', first='layer1.2', last='layer3.1'),
            dict(model='resnet50', first='layer2.2', last='layer2.2'),
            dict(model='swin_small_patch4_window7_224', first='stages.2.blocks.16', last='stages.3.blocks.1')
        ],
        adapter_list=[
            dict(mode='cnn2cnn', in_channels=256, out_channels=256),
            dict(mode='cnn2cnn', in_channels=1024, out_channels=512),
            dict(mode='cnn2vit', in_channels=512, out_channels=384)
        ]),
    head=dict(in_channels=768))
