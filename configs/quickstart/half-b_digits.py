# A net for the other half of the digits, from another initialisation.
_base_ = ['./half-a_digits.py']

part = 1
randomness = dict(seed=1)
