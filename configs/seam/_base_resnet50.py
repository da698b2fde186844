# ResNet-50 in torchvision's layout, from torchvision's first weights for ImageNet.
_base_ = ['./_base_transfer.py']

model = dict(backbone=dict(type='mmpretrain.ResNet', depth=50), head=dict(in_channels=2048))
pretrained = 'torchvision://resnet50.imagenet1k_v1'
robustness = dict(teacher=pretrained)
