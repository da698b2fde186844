# DeRy(4, 50, 10): 40.41 M parameters, 6.43 GFLOPs.
_base_ = ['./dery.py']

model = dict(
    backbone=dict(
        base_channels=64,
        block_list=[
            dict(model='resnet50', first='layer1.0', last='layer1.1'),
            dict(model='regnet_y_3_2gf', first='trunk_output.block2.block2-1', last='trunk_output.block3.block3-1'),
            dict(model='resnet101', first='layer3.8', last='layer3.22'),
            dict(model='resnet50', first='layer3.4', last='layer4.2')
        ],
        adapter_list=[
            dict(mode='cnn2cnn', in_channels=256, out_channels=216, stride=2),
            dict(mode='cnn2cnn', in_channels=576, out_channels=1024),
            dict(mode='cnn2cnn', in_channels=1024, out_channels=1024)
        ]),
    head=dict(in_channels=2048))
