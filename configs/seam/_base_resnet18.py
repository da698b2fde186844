# ResNet-18 in torchvision's layout, from torchvision's weights for ImageNet.
_base_ = ['./_base_transfer.py']

model = dict(backbone=dict(type='mmpretrain.ResNet', depth=18), head=dict(in_channels=512))
pretrained = 'torchvision://resnet18.imagenet1k_v1'
robustness = dict(teacher=pretrained)
