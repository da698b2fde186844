"""Merge digits ViTs of different initialisations under more and more symmetries, calibrated and not, and their barrier.

    python benchmarks/symmetries.py --out configs/zipit/symmetries_vit_digits.json

Sources are the runs of ``configs/zipit/sources/vit_digits-5+5_{a,b}.py`` (``split_seed`` 0 to 2), and of
``configs/quickstart/vit_digits.py`` with two seeds for the barrier. Matching by activations and calibration see the
first 300 training images without labels; accuracy is that on the first 300 test images. Nothing is chosen.
"""
from __future__ import annotations

import json
import time
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmreuse.graph import canonicalize
from mmreuse.merging import align, interpolate, merge
from mmreuse.registry import DATASETS, MODELS
from mmreuse.utils.configs.files import read_config
from mmreuse.utils.files.io import load_checkpoint
from mmreuse.utils.files.state_fit import load_strictly, weights_of

INPUTS = torch.zeros(1, 3, 8, 8)
IMAGES = 300
MATCHERS = {
    'plain average': 'identity',
    'plain average, canonical form': 'canonical',
    'weights, permutations': 'weight_matching',
    'weights, all symmetries': 'generalized_weight_matching',
    'activations, permutations': 'permute',
    'activations, orthogonal stream and heads': 'procrustes',
}


def digits(split: str, number: int | None = None) -> tuple[Tensor, Tensor]:
    """Return images (B, 3, 8, 8), normalised as configs do, and labels (B,)."""
    dataset = DATASETS.build(dict(type='Digits', split=split, pipeline=[dict(type='mmpretrain.PackInputs')]))
    samples = [dataset[index] for index in range(number or len(dataset))]
    images = torch.stack([sample['inputs'] for sample in samples]).float()
    return (images - 78.) / 94., torch.cat([sample['data_samples'].gt_label for sample in samples])


@torch.no_grad()
def accuracy(network: nn.Module, score: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> float:
    """Return the share of images, in percent, whose class has the highest score of all."""
    return 100 * float((score(network(images)).argmax(1) == labels).float().mean())


def merge_split(split: int, images: Tensor, test: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """Return joint accuracies of every merge of one division of the classes, calibrated or not, and of the ensemble."""
    config = read_config('configs/zipit/zipit_vit_digits-5+5.py', options=dict(split_seed=split))
    classifier = MODELS.build(config.model)
    classifier.init_weights()
    models = [source.model.eval() for source in classifier.sources]
    scorers, rows = classifier.scorers, {}
    with torch.no_grad():
        joint = torch.stack([score(model(test[0])) for score, model in zip(scorers, models, strict=True)]).amax(0)
    rows['ensemble'] = dict(merged=100 * float((joint.argmax(1) == test[1]).float().mean()))
    for number, model in enumerate(models):
        rows[f'network {"AB"[number]} alone'] = dict(merged=accuracy(model, scorers[number], *test))
    for name, matcher in MATCHERS.items():
        nets = [canonicalize(model, INPUTS) for model in models] if matcher == 'canonical' else models
        row, started = rows.setdefault(name, {}), time.process_time()

        def measure(network: nn.Module, loader: object, row: dict[str, float] = row, started: float = started) -> None:
            row['merged'] = accuracy(network.eval(), scorers[0], *test)
            row['seconds'] = round(time.process_time() - started, 1)

        merged = merge(nets, images.split(100), 'identity' if matcher == 'canonical' else matcher, inputs=INPUTS,
                       heads='merge', samples=IMAGES, renormalizers=[measure, dict(type='calibrate', samples=IMAGES)])
        row['calibrated'] = accuracy(merged.eval(), scorers[0], *test)
        row['seconds, calibrated'] = round(time.process_time() - started, 1)
        print(split, name, row, flush=True)
    return rows


def barrier(checkpoints: Sequence[str], images: Tensor, test: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """Measure cross-entropy and accuracy along the straight line between two networks of the same data."""
    config, models = read_config('configs/quickstart/vit_digits.py'), []
    for path in checkpoints:
        model = MODELS.build(config.model)
        load_strictly(model, weights_of(load_checkpoint(path), path), path, remedy='')
        models.append(model.eval())
    rows = {}
    for name, matcher in MATCHERS.items():
        nets = [canonicalize(model, INPUTS) for model in models] if matcher == 'canonical' else models
        ends = align(nets, images.split(100), 'identity' if matcher == 'canonical' else matcher, inputs=INPUTS,
                     samples=IMAGES)
        points = [interpolate(ends, (1 - share / 10, share / 10)) for share in range(11)]
        with torch.no_grad():
            outputs = [point(test[0]) for point in points]
        losses = [float(nn.functional.cross_entropy(output, test[1])) for output in outputs]
        hits = [100 * float((output.argmax(1) == test[1]).float().mean()) for output in outputs]
        above = max(loss - (losses[0] + (losses[-1] - losses[0]) * share / 10) for share, loss in enumerate(losses))
        rows[name] = dict(barrier=above, accuracy=hits, losses=losses)
        print(name, rows[name], flush=True)
    return rows


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('--splits', type=int, nargs='*', default=[0, 1, 2])
    parser.add_argument('--checkpoints', nargs=2, help='of configs/quickstart/vit_digits.py, for the barrier')
    parser.add_argument('--out', type=Path, default=Path('configs/zipit/symmetries_vit_digits.json'))
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    torch.manual_seed(0)
    init_default_scope('mmreuse')
    images, test = digits('train', IMAGES)[0], digits('test', IMAGES)
    result = json.loads(args.out.read_text()) if args.out.exists() else {}
    for split in args.splits:
        result[f'split {split}'] = merge_split(split, images, test)
        args.out.write_text(json.dumps(result, indent=1) + '\n')
    if args.checkpoints:
        result['barrier'] = barrier(args.checkpoints, images, test)
        args.out.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
