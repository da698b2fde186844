"""The inverse Fisher of one layer: the published recursion beside the inverse in the space of samples.

    python benchmarks/woodfisher.py --out woodfisher.json

Both get the same gradients of 1000 samples and give the diagonal of the inverse and its product with a vector, in a
process of their own, so that its peak memory (without that of Python and of the gradients) can be read. Times are of
the processor, one thread, which other work on the machine hardly changes. The recursion is in float32, as published,
and updates its matrix in place. For the layer of 4608 weights it runs to its end and the results are compared with ours
(float64); for the layer of 36 864 weights only ``reference_steps_measured`` of its 1000 steps run. All steps cost the
same, so ``reference_s`` is ``reference_setup_s`` (the matrix is made) and 1000 times the mean step.
"""
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _common import compare_times, parse_args, write
from torch import Tensor

from mmreuse.pruning import Fisher, PerSampleGradients

SAMPLES = 1000
DAMP = 1e-5
REPEATS = 3
#: Weights of the layer, and how many steps of the recursion are run.
CASES = {'16 -> 32 channels, 4608 weights': (4608, SAMPLES), '64 -> 64 channels, 36864 weights': (36864, 5)}


def make_gradients(size: int) -> Tensor:
    """Gradients whose covariance has a decaying spectrum, of the size that a trained network has."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.logspace(0, -3, SAMPLES)[:, None]
    mixing = torch.linalg.qr(torch.randn(SAMPLES, SAMPLES, generator=generator)).Q
    return 0.1 * (mixing * scale.T) @ torch.randn(SAMPLES, size, generator=generator)


class Recursion:
    """Rank-one updates of the inverse (Singh and Alistarh, 2020, equation 8)."""

    def __init__(self, size: int) -> None:
        self.matrix = torch.zeros(size, size)
        self.matrix.fill_diagonal_(1 / DAMP)
        self.matrix @ torch.ones(size)  # all its memory is touched

    def __call__(self, gradients: Tensor) -> None:
        for row in gradients:
            product = self.matrix @ row
            self.matrix.addr_(product, product, alpha=-1 / (SAMPLES + float(row @ product)))

    def results(self) -> tuple[Tensor, Tensor]:
        return self.matrix.diagonal().clone(), self.matrix @ torch.ones(len(self.matrix))


def ours(gradients: Tensor) -> tuple[Tensor, Tensor]:
    """The same two vectors."""
    size = gradients.shape[1]
    fisher = Fisher(PerSampleGradients.of_matrix(gradients, {'layer': torch.Size([size])}), DAMP)
    return fisher.inverse_diagonal['layer'], fisher.solve({'layer': torch.ones(size, dtype=torch.float64)})['layer']


def seconds(function: Callable, *args: object) -> tuple[float, Any]:
    start = time.process_time()
    result = function(*args)
    return time.process_time() - start, result


def peak_mb() -> float:
    """Largest memory of this process since :func:`forget_peak`, in MB (Linux)."""
    status = Path('/proc/self/status').read_text()
    return int(status.split('VmHWM:')[1].split()[0]) / 1024


def forget_peak() -> float:
    """Begin to measure the peak anew, and give what is in use now, in MB."""
    Path('/proc/self/clear_refs').write_text('5')
    return peak_mb()


def run_ours(size: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    ours(make_gradients(64))  # libraries are loaded and warm
    gradients = make_gradients(size)
    before = forget_peak()
    spent, results = seconds(ours, gradients)
    return dict(ours_s=spent, ours_mb=peak_mb() - before, results=[result.numpy() for result in results])


def run_reference(size: int, steps: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    Recursion(64)(make_gradients(64)[:2])
    gradients = make_gradients(size)
    before = forget_peak()
    setup_s, recursion = seconds(Recursion, size)
    spent, _ = seconds(recursion, gradients[:steps])
    return dict(
        reference_setup_s=setup_s, reference_steps_s=spent, reference_s=setup_s + spent * SAMPLES / steps,
        reference_mb=peak_mb() - before, results=[result.double().numpy() for result in recursion.results()])


def main() -> None:
    args = parse_args(__doc__)
    results = {}
    for case, (size, steps) in CASES.items():
        with multiprocessing.get_context('spawn').Pool(1, maxtasksperchild=1) as pool:
            turns = [(pool.apply(run_ours, (size,)), pool.apply(run_reference, (size, steps))) for _ in range(REPEATS)]
        mine, theirs = turns[-1]
        pairs = list(zip(mine.pop('results'), theirs.pop('results'), strict=True))
        results[case] = dict(
            samples=SAMPLES, reference_steps_measured=steps, **theirs, **mine,
            memory_ratio=theirs['reference_mb'] / mine['ours_mb']) | compare_times(
                [other['reference_s'] for _, other in turns], [own['ours_s'] for own, _ in turns])
        if steps == SAMPLES:
            results[case].update(
                {f'{name}_difference': float(abs(found - expected).max() / abs(found).max())
                 for name, (found, expected) in zip(('diagonal', 'product'), pairs, strict=True)})
        write(args.out, results)


if __name__ == '__main__':
    main()
