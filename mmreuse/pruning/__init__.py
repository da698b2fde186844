"""Pruning trained networks: saliencies, schedules, structured pruning."""
