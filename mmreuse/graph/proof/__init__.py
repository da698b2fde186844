"""Prove feature spaces on random networks and inputs, and hold what the proof refutes."""
