"""Components for mmpretrain's classifiers."""
from mmpretrain.models import ClsDataPreprocessor

from mmreuse.models.backbones import CifarResNet, DeRy
from mmreuse.registry import MODELS
from mmreuse.utils.safe_loading import install_safe_loaders

# mmpretrain's classifiers ask for it by its bare name, in whatever scope is the default.
MODELS.register_module(module=ClsDataPreprocessor)
# `init_cfg=dict(type='Pretrained')` loads files as soon as a model is built.
install_safe_loaders()

__all__ = ['CifarResNet', 'DeRy']
