"""Fine-grained datasets that mmpretrain lacks."""
