"""Backbones that mmpretrain lacks."""
from mmreuse.models.backbones.cifar_resnet import CifarResNet

__all__ = ['CifarResNet']
