"""Trainings: mmengine's loops and optimizer wrappers, checkpoints, resuming."""
