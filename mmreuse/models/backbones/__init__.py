"""Backbones that mmpretrain lacks."""
from mmreuse.models.backbones.cifar_resnet import CifarResNet
from mmreuse.models.backbones.cifar_vgg import CifarVGG
from mmreuse.models.backbones.dery import DeRy
from mmreuse.models.backbones.dropout_resnet import DropoutResNet
from mmreuse.models.backbones.linear_mlp import LinearMLP

__all__ = ['CifarResNet', 'CifarVGG', 'DeRy', 'DropoutResNet', 'LinearMLP']
