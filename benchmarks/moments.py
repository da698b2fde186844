"""Covariances of features: float64 references beside the one-pass accumulator.

    python benchmarks/moments.py --out moments.json

References: ``two-pass`` keeps all features and computes in float64, mean first; ``naive`` adds up
float64 products batch by batch. The error is the largest of the covariance against the
two-pass result, relative to the standard deviations; ``naive32`` is that of adding up float32 products
without a shift.
"""
import torch
from _common import measure, parse_args, write
from torch import Tensor

from mmreuse.statistics import MomentAccumulator


def two_pass(features: Tensor) -> Tensor:
    features = features.double()
    centred = features - features.mean(0)
    return centred.T @ centred / len(features)


def naive(batches: list[Tensor], dtype: torch.dtype) -> Tensor:
    size = batches[0].shape[1]
    products, sums, count = torch.zeros(size, size, dtype=dtype), torch.zeros(size, dtype=dtype), 0
    for batch in batches:
        batch = batch.to(dtype)
        products += batch.T @ batch
        sums += batch.sum(0)
        count += len(batch)
    return products / count - torch.outer(sums, sums) / count**2


def ours(batches: list[Tensor]) -> Tensor:
    accumulator = MomentAccumulator(batches[0].shape[1])
    for batch in batches:
        accumulator.update(batch)
    return accumulator.result().covariance


def error(covariance: Tensor, reference: Tensor) -> float:
    scale = reference.diagonal().sqrt()
    return ((covariance - reference).abs() / torch.outer(scale, scale)).max().item()


def main() -> None:
    args = parse_args(__doc__)
    torch.manual_seed(0)
    results = {}
    for size, rows, ratio in ((64, 65536, 0), (64, 65536, 100), (512, 16384, 100), (1024, 16384, 100)):
        mixing = torch.randn(size, size) / size**0.5
        features = torch.randn(rows, size) @ mixing + ratio
        batches = list(features.split(2048))
        reference = two_pass(features)
        accuracy = dict(max_abs_error=error(ours(batches), reference),
                        naive32_error=error(naive(batches, torch.float32).double(), reference))
        case = f'n={size}, {rows} rows, mean/std={ratio}'
        results[f'two-pass, {case}'] = measure(lambda f=features: two_pass(f), lambda b=batches: ours(b)) | accuracy
        results[f'naive float64, {case}'] = measure(
            lambda b=batches: naive(b, torch.float64), lambda b=batches: ours(b)) | accuracy
    write(args.out, results)


if __name__ == '__main__':
    main()
