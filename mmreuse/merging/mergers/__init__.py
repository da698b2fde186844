"""Mergers of networks that share an initialisation, one file per family; importing the package registers them all.

A merger is a pure function. It names, by its parameters, what it merges, where n is the number of networks:

- ``weights`` (n, d): all parameters of each network in one row,
- ``task_vectors`` (n, d): the same, less those of the base that the networks were fine-tuned from,
- ``matrices`` (n, groups, out, in): the weights of one layer, a convolution's kernel positions among its inputs,
- ``task_matrices`` (n, groups, out, in): the same, less those of the base,

and what it weighs them by: ``grams`` (n, groups, in, in), mean products of a layer's inputs, or ``fisher`` (n, d). It
returns one for the n: what merges task vectors, the vector that is added to the base, times a scale.
"""
from mmreuse.merging.mergers import averages, regressions, spectra, task_vectors  # noqa: F401
