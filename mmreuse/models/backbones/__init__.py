"""Backbones that mmpretrain lacks."""
from mmreuse.models.backbones.cifar_resnet import CifarResNet
from mmreuse.models.backbones.cifar_vgg import CifarVGG
from mmreuse.models.backbones.dery import DeRy

__all__ = ['CifarResNet', 'CifarVGG', 'DeRy']
