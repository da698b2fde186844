"""Components for mmpretrain's classifiers."""
from mmreuse.models.backbones import CifarResNet, CifarVGG, DeRy, DropoutResNet, LinearMLP
from mmreuse.models.classifiers import ClassifierPair, MergedClassifier, ModularClassifier
from mmreuse.models.generators import SinGAN, SinGANGenerator
from mmreuse.models.heads import TextEmbeddingHead
from mmreuse.utils.files.safe_loading import install_safe_loaders

# `init_cfg=dict(type='Pretrained')` loads files as soon as a model is built.
install_safe_loaders()

__all__ = ['CifarResNet', 'CifarVGG', 'ClassifierPair', 'DeRy', 'DropoutResNet', 'LinearMLP',
           'MergedClassifier', 'ModularClassifier', 'SinGAN', 'SinGANGenerator', 'TextEmbeddingHead']
