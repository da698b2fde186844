"""Components for mmpretrain's classifiers."""
from mmreuse.models.backbones import CifarResNet, DeRy

__all__ = ['CifarResNet', 'DeRy']
