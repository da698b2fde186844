"""Heads that mmpretrain lacks."""
from mmreuse.models.heads.text_embedding import TextEmbeddingHead

__all__ = ['TextEmbeddingHead']
