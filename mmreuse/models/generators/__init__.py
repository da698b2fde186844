"""Networks that make images."""
from mmreuse.models.generators.singan import SinGAN, SinGANGenerator

__all__ = ['SinGAN', 'SinGANGenerator']
