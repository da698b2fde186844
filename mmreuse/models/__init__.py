"""Components for mmpretrain's classifiers."""
from mmreuse.models.backbones import CifarResNet

__all__ = ['CifarResNet']
