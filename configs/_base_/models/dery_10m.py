# DeRy(4, 10, 3): 7.83 M parameters, 2.99 GFLOPs.
_base_ = ['./dery.py']

model = dict(
    backbone=dict(
        base_channels=32,
        block_list=[
            dict(model='regnet_y_16gf', first='trunk_output.block1.block1-0', last='trunk_output.block1.block1-1'),
            dict(model='mobilenetv3_large_100', first='blocks.2.2', last='blocks.2.2'),
            dict(model='regnet_y_800mf', first='trunk_output.block3.block3-3', last='trunk_output.block3.block3-7'),
            dict(model='regnet_y_1_6gf', first='trunk_output.block3.block3-15', last='trunk_output.block4.block4-1')
        ],
        adapter_list=[
            dict(mode='cnn2cnn', in_channels=224, out_channels=40),
            dict(mode='cnn2cnn', in_channels=40, out_channels=320),
            dict(mode='cnn2cnn', in_channels=320, out_channels=336)
        ]),
    head=dict(in_channels=888))
