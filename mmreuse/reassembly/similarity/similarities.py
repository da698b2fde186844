"""Similarities of layers, each one function of the stacked Grams of a whole zoo.

A similarity takes a :class:`~mmreuse.reassembly.similarity.gram_files.GramSet` of S rows and returns the
(S, S) matrix of all pairs. Register another one with ``@SIMILARITIES.register_module(name=...)``.

With ``K`` the centred Gram of a layer over a minibatch of n samples and ``H`` the centring
matrix, linear CKA is ``<K, L> / (|K| |L|)`` (Kornblith et al., 2019, eq. 3). That estimate of HSIC
is biased: for features wider than n it is near 1 whatever they are. HSIC_1 (Song et al.,
2012, eq. 5) is not: with U-centred matrices ``A``, zero on their diagonals, it is
``<A, B> / (n (n - 3))``. Numerator and self terms are accumulated over minibatches and
divided at the end (Nguyen et al., 2021, eq. 3).
"""
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmreuse.errors import ConfigError
from mmreuse.reassembly.similarity.gram_files import STACKED_GRAMS, GramBatch, GramSet
from mmreuse.reassembly.similarity.similarity_matrix import SimilarityMatrix
from mmreuse.reassembly.similarity.sketch import sketch_grams
from mmreuse.registry import SIMILARITIES, Method
from mmreuse.utils.configs.methods import find_method
from mmreuse.utils.files.io import PathLike

logger = logging.getLogger(__name__)

#: Rounding makes eigenvalues up to 2.7 times eps |K| / sqrt(n) of those that are 0, in Grams K of n = 32 to 1024
#: samples, dead channels and spectra of all kinds; what is smaller says nothing.
_NOISE = 4 * torch.finfo(torch.float32).eps
#: Below what the sketch of any Gram that varies has as its length.
_TINY = torch.finfo(torch.float32).tiny
#: Rows of the result that are worked on at once.
_ROWS = 1024


def compute_similarity(
    gram_files: Sequence[PathLike],
    metric: str | Mapping[str, Any] = 'cka',
    *,
    device: str | torch.device = 'cpu',
    memory: int = STACKED_GRAMS,
) -> SimilarityMatrix:
    """Compare every place of every network of a zoo with every other.

    Sharded over ranks when run under ``torch.distributed``; every rank gets the result.

    Args:
        gram_files: One file per network, made over the same samples; the networks keep this order.
        metric: Name of a similarity, or ``dict(type=NAME, **options)``.
        device: Where the algebra runs.
        memory: Bytes the stacked Grams of one product may take.

    Returns:
        SimilarityMatrix: All networks, inputs of first nodes included.

    Raises:
        ConfigError: The metric or one of its options is unknown.
        ArtefactError: A file is missing, truncated, or from other samples than the first.
    """
    similarity = find_similarity(metric)
    grams = GramSet(gram_files, device, memory)
    values = similarity(grams)
    sketched = similarity.options.get('sketch') is not None
    return SimilarityMatrix(
        keys=grams.keys, offsets=grams.offsets, values=values.float(), metric=similarity.name,
        symmetric=sketched or torch.equal(values, values.T), options=dict(similarity.options), sketched=sketched,
        node_names={key: tuple(node.name for node in nodes) for key, nodes in grams.nodes.items()},
        weights_hashes={item['key']: item['weights_hash'] for item in grams.metadata},
        data_hash=grams.metadata[0]['data_hash'])


def find_similarity(metric: str | Mapping[str, Any]) -> Method:
    """Look up a registered similarity and check the numbers among its options.

    Args:
        metric: Its name, or ``dict(type=NAME, **options)``.

    Raises:
        ConfigError: The metric or one of its options is unknown or out of range.
    """
    similarity = find_method(SIMILARITIES, metric)
    for option, value in similarity.options.items():
        if isinstance(value, float) and not math.isfinite(value) or option == 'sigma' and not value > 0:
            raise ConfigError(f"similarity '{similarity.name}': {option} = {value} must be finite, sigma positive as "
                              'well.')
    size = similarity.options.get('sketch')
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 2):
        raise ConfigError(f"similarity '{similarity.name}': sketch = {size!r} must be a whole number of at least 2, or "
                          'None for all pairs exactly.')
    if size is not None and similarity.options.get('legacy'):
        raise ConfigError(f"similarity '{similarity.name}': legacy = True averages over minibatches what a sketch adds "
                          'up. Leave one of legacy and sketch out.')
    return similarity


@SIMILARITIES.register_module(name='cka')
def cka(grams: GramSet, *, legacy: bool = False, sketch: int | None = None) -> Tensor:
    """Linear centred kernel alignment.

    Args:
        grams: S stacked rows.
        legacy: The biased CKA of each minibatch, averaged over minibatches with equal weights, as published.
        sketch: Numbers m a place that stand for its Grams, instead of all pairs of places, see
            :mod:`~mmreuse.reassembly.similarity.sketch`: the standard error of a value rho is (1 - rho^2) / sqrt(m).

    Returns:
        Tensor: (S, S) float32, symmetric, 1 on the diagonal. The unbiased value may be slightly negative
        for unrelated layers. A layer that is constant over the samples is 0 to all. With ``sketch`` (S, m), unit
        vectors whose inner products are these values.
    """
    if legacy:
        return _set_unit_diagonal(grams, _mean_cosine(grams, lambda batch: batch.centred))
    return _pooled_hsic(grams, lambda batch: batch.centred, sketch)


@SIMILARITIES.register_module(name='rbf_cka')
def rbf_cka(grams: GramSet, *, sigma: float = 1.0, legacy: bool = False, sketch: int | None = None) -> Tensor:
    """CKA of the kernels ``exp(-D / (2 sigma^2 med D))``, ``D`` the squared distances within a minibatch.

    Args:
        grams: S stacked rows.
        sigma: Bandwidth, in units of the median distance.
        legacy: As published: the median is over all n^2 distances, zeros of the diagonal included; CKA is
            biased and averaged over minibatches. By default the median is over pairs of different samples and
            HSIC is unbiased.
        sketch: As in :func:`cka`.

    Returns:
        Tensor: As :func:`cka`.
    """

    def kernel(batch: GramBatch) -> Tensor:
        squares = batch.centred.diagonal(dim1=1, dim2=2)
        distances = (squares[:, :, None] + squares[:, None, :] - 2 * batch.centred).clamp_(min=0)
        size = distances.shape[-1]
        itself = torch.eye(size, dtype=torch.bool, device=distances.device)
        distances.masked_fill_(itself, 0)
        pairs = distances.flatten(1) if legacy else distances[:, ~itself]
        median = pairs.median(1).values[:, None, None]
        # Without spread all samples are alike: a kernel of ones, which centring turns into zeros.
        return torch.exp(-distances / (2 * sigma**2 * median.clamp(min=torch.finfo(median.dtype).tiny)))

    if legacy:
        return _set_unit_diagonal(grams, _mean_cosine(grams, lambda batch: _centre(kernel(batch))))
    return _pooled_hsic(grams, kernel, sketch)


@SIMILARITIES.register_module(name='lr')
def lr(grams: GramSet, *, legacy: bool = False) -> Tensor:
    """Share of a layer's variance that linear regression on another layer explains.

    ``s(X <- Y) = tr(P_Y K_X) / tr(K_X)`` with ``P_Y`` the projector onto the range of ``K_Y``
    (Kornblith et al., 2019, eq. 16 with centred features, that is, with an intercept). Entry (x, y)
    predicts x from y; it is not symmetric. As soon as Y is as wide as the minibatch
    has samples, Y explains anything: s = 1. Make Grams over minibatches larger than the widest node, or use CKA.

    Args:
        grams: S stacked rows.
        legacy: As published: features are not centred (no intercept), and minibatches are averaged
            with equal weights.

    Returns:
        Tensor: (S, S) float32 within [0, 1].
    """
    smallest = min(grams.sizes)
    saturated = [grams.place(row) for row, width in enumerate(grams.widths.tolist()) if width >= smallest - 1]
    if saturated:
        logger.warning('lr: %d places have at least as many channels as the smallest minibatch (%d samples) can tell '
                       'apart, first the %s; what they predict is 1 for lack of samples.',
                       len(saturated), smallest, saturated[0])

    def gram(batch: GramBatch) -> Tensor:
        if not legacy:
            return batch.centred
        return (batch.centred + batch.cross[:, :, None] + batch.cross[:, None, :] + batch.mean_square[:, None, None])

    def projector(batch: GramBatch) -> Tensor:
        size = batch.centred.shape[-1]
        matrices = gram(batch).double()
        values, vectors = torch.linalg.eigh(matrices)
        rank = batch.widths.clamp(max=size if legacy else size - 1)
        kept = torch.arange(size, device=values.device) >= size - rank[:, None]
        kept &= values > _NOISE * size**-0.5 * torch.linalg.matrix_norm(matrices)[:, None]
        vectors = vectors * kept[:, None, :]
        return (vectors @ vectors.mT).float()

    def trace(batch: GramBatch) -> Tensor:
        return gram(batch).diagonal(dim1=1, dim2=2).sum(1)

    if legacy:
        values = grams.product(
            lambda batch: _triangle(_divided(gram(batch), trace(batch))), lambda batch: _triangle(projector(batch)))
        return values.div_(len(grams.sizes)).clamp_(0, 1)
    explained = grams.product(lambda batch: _triangle(gram(batch)), lambda batch: _triangle(projector(batch)))
    total = grams.total(trace)
    return explained.mul_(torch.where(total > 0, 1 / total, 0).float()[:, None]).clamp_(0, 1)


def _pooled_hsic(grams: GramSet, kernel, sketch: int | None) -> Tensor:
    """Unbiased CKA: HSIC_1 summed over minibatches, weighted by their sizes, divided at the end."""

    def embed(batch: GramBatch) -> Tensor:
        matrices = _u_centre(kernel(batch))
        size = matrices.shape[-1]
        # size * HSIC_1 = <A, B> / (size - 3), which is all a minibatch of another size needs.
        return _triangle(matrices) * (size - 3)**-0.5

    if sketch is not None:
        vectors = torch.nn.functional.normalize(sketch_grams(grams, embed, sketch), dim=1, eps=_TINY)
        _name_constant(grams, vectors.norm(dim=1) < 0.5)
        return vectors
    hsic = grams.product(embed)
    norm = hsic.diagonal().clone().sqrt()
    inverse = torch.where(norm > 0, 1 / norm, 0)
    # In place, some rows at a time; the product of both factors comes first, as it is the same across the diagonal.
    for rows, factors in zip(hsic.split(_ROWS), inverse.split(_ROWS), strict=True):
        rows *= torch.outer(factors, inverse)
    return _set_unit_diagonal(grams, hsic)


def _mean_cosine(grams: GramSet, kernel) -> Tensor:
    """Return mean over minibatches, equally weighted, of the cosines of matrices ``kernel(batch)``."""
    product = grams.product(lambda batch: torch.nn.functional.normalize(_triangle(kernel(batch)), dim=1))
    return product.div_(len(grams.sizes))


def _triangle(matrices: Tensor) -> Tensor:
    """Return symmetric (r, n, n) as vectors (r, n (n + 1) / 2) of the same inner products, in half the memory."""
    size = matrices.shape[-1]
    rows, columns = torch.triu_indices(size, size, device=matrices.device)
    vectors = matrices.flatten(1).index_select(1, rows * size + columns)
    return vectors.mul_(torch.where(rows == columns, 1, 2**0.5).to(vectors.dtype))


def _centre(matrices: Tensor) -> Tensor:
    """``H K H`` of symmetric (r, n, n)."""
    means = matrices.mean(2)
    return matrices - means[:, :, None] - means[:, None, :] + means.mean(1)[:, None, None]


def _u_centre(matrices: Tensor) -> Tensor:
    """U-centring (Székely and Rizzo, 2014, eq. 2.5) of symmetric (r, n, n); additive row and column terms cancel."""
    size = matrices.shape[-1]
    matrices = matrices.clone()
    matrices.diagonal(dim1=1, dim2=2).zero_()
    sums = matrices.sum(2)
    matrices -= (sums[:, :, None] + sums[:, None, :]) / (size - 2)
    matrices += sums.sum(1)[:, None, None] / ((size - 1) * (size - 2))
    matrices.diagonal(dim1=1, dim2=2).zero_()
    return matrices


def _divided(matrices: Tensor, divisors: Tensor) -> Tensor:
    """Each of (r, n, m) by its own divisor (r,); zero where that is zero."""
    return matrices * torch.where(divisors > 0, 1 / divisors, 0)[:, None, None].to(matrices.dtype)


def _set_unit_diagonal(grams: GramSet, values: Tensor) -> Tensor:
    """Make each layer's similarity to itself exactly 1, constant layers excepted: those are named in the log."""
    constant = values.diagonal() < 0.5
    _name_constant(grams, constant)
    values.diagonal().copy_(torch.where(constant, 0.0, 1.0))
    return values


def _name_constant(grams: GramSet, constant: Tensor) -> None:
    for row in torch.nonzero(constant).flatten().tolist():
        logger.warning('The %s does not vary over the samples: its similarity to everything is 0.', grams.place(row))
