# DeRy(4, 90, 20): 80.66 M parameters, 13.29 GFLOPs.
_base_ = ['./dery.py']

model = dict(
    backbone=dict(
        base_channels=64,
        block_list=[
            dict(model='swsl_resnext50_32x4d', first='layer1.0', last='layer1.2'),
            dict(model='swin_small_patch4_window7_224', first='stages.0.blocks.1', last='stages.0.blocks.1'),
            dict(model='swin_small_patch4_window7_224', first='stages.0.downsample', last='stages.2.blocks.15'),
            dict(model='swin_base_patch4_window7_224', first='stages.2.blocks.11', last='stages.3.blocks.1')
        ],
        adapter_list=[
            dict(mode='cnn2vit', in_channels=256, out_channels=96),
            dict(mode='vit2vit', in_channels=96, out_channels=96, num_conv=0, num_fc=1),
            dict(mode='vit2vit', in_channels=384, out_channels=512, num_conv=0, num_fc=1)
        ]),
    head=dict(in_channels=1024))
