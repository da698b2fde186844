"""Vectors of m numbers whose inner products estimate those of far longer ones, without bias.

The Grams of a place over all minibatches, behind one another, are a vector x of D numbers. Its positions are dealt out
at random over m buckets, as evenly as can be, and every bucket adds up its own under random signs: the count sketch of
Charikar et al. (2002) without replacement. The draw is the same for all places. For the sketches s and t of x and y,

    E <s, t> = <x, y>,    Var <s, t> = c (|x|^2 |y|^2 + <x, y>^2 - 2 sum_p x_p^2 y_p^2),

where c is the probability that two positions share a bucket, at most 1/m: only their products are in <s, t> beside
those of <x, y>, each under the product of their signs, (p, q) under that of (q, p). The cosine of s and t, as which
CKA comes out, has standard error ``(1 - rho^2) sqrt(c)`` to first order, which vanishes where rho does not differ
from 1. With m >= D every position has a bucket of its own, c is 0, and nothing is lost.

A dense matrix of signs has the same variance, with 1/m for c, and takes m times the work. So do products of random
vectors with the Gram, ``u' K v``, whose variance is up to four times as large, for Grams of rank one (on Grams of
trained networks the errors were about the same). Of ``R K R'`` with few rows the error falls with the fourth root of
the numbers kept, since Grams of networks have few large eigenvalues.
"""
import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from torch import Tensor

from mmreuse.reassembly.similarity.gram_files import Embedding, GramSet


class Sketch:
    """One draw of buckets and signs.

    Args:
        length: Numbers D that are sketched.
        size: Numbers m that a sketch has.
        seed: Of the draw.
    """

    def __init__(self, length: int, size: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.length, self.size = length, size
        self.buckets = torch.randperm(length, generator=generator) % size
        self.signs = 2. * torch.randint(2, (length,), generator=generator) - 1

    @property
    def collision(self) -> float:
        """Return the probability that two positions share a bucket."""
        held = torch.bincount(self.buckets, minlength=self.size).double()
        return float((held * (held - 1)).sum() / max(1, self.length * (self.length - 1)))

    def add(self, total: Tensor, vectors: Tensor, start: int = 0) -> None:
        """Add what some of the positions give to sketches.

        Args:
            total: (r, m) sketches, changed in place.
            vectors: (r, d) numbers at positions ``start`` to ``start + d``.
            start: The first of them.
        """
        part = slice(start, start + vectors.shape[1])
        signs, buckets = (each[part].to(vectors.device) for each in (self.signs, self.buckets))
        total.index_add_(1, buckets, vectors * signs.to(vectors.dtype))


def sketch_grams(grams: GramSet, embed: Embedding, size: int) -> Tensor:
    """Sketch every place of a zoo, a stack of Grams at a time; stacks are dealt out over the ranks.

    Args:
        grams: S stacked rows.
        embed: From the Grams of a minibatch of n samples to vectors of n (n + 1) / 2 numbers.
        size: Numbers m of a sketch.

    Returns:
        Tensor: (S, m) float32 on the CPU, the same on every rank.
    """
    lengths = [samples * (samples + 1) // 2 for samples in grams.sizes]
    sketch = Sketch(sum(lengths), size)
    total = torch.zeros(len(grams), size)
    rank, world = get_rank(), get_world_size()
    for tile in grams.tiles(world)[rank::world]:
        part, start = torch.zeros(tile[1] - tile[0], size, device=grams.device), 0
        for index, length in enumerate(lengths):
            sketch.add(part, embed(grams.minibatch(index, *tile)), start)
            start += length
        total[slice(*tile)] = part.cpu()
    all_reduce(total, op='sum')
    return total
