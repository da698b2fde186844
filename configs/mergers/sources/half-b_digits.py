# The other half.
_base_ = ['./half-a_digits.py']

part = 1
