"""Take a network of each library through the commands, from weights to an exported file, and write what came out.

    python tests/tools/command_walk.py --out docs/en/command_walk.json

Seconds are of one processor core. The networks are small and their two fine-tunings are the same weights with noise,
so that what is shown is that the commands go through, not how good the result is. All that a command knows is on its
command line.
"""
import contextlib
import io
import json
import re
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from mmreuse.__main__ import main
from mmreuse.networks import create
from mmreuse.utils.files.io import read_json, write_json

OWN = """
import torch
from torch import nn

from block import Block


def make_net(width: int = 16, num_classes: int = 10) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        Block(width), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
"""
BLOCK = """
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.norm = nn.BatchNorm2d(2 * width)
        self.back = nn.Conv2d(2 * width, width, 1)

    def forward(self, x):
        return x + self.back(self.norm(self.conv(x)).relu())
"""
#: By library: the name, options and the side of an image.
NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    'own code': ('my_nets.py:make_net', dict(width=16), 32),
    'timm': ('timm:resnet10t', dict(num_classes=10), 32),
    'torchvision': ('torchvision:mobilenet_v3_small', dict(num_classes=10), 64),
    'mmpretrain': ('mmpretrain:mobilenet-v3-small-050_3rdparty_in1k', {'head.num_classes': 10}, 32),
    'transformers': ('transformers:ViTForImageClassification', dict(
        image_size=32, patch_size=8, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128,
        num_labels=10), 32)}


def commands(name: str, options: Mapping[str, Any], side: int) -> dict[str, list[str]]:
    """Return the command lines for a network: networks of own code are named in each, as nothing else may run them."""
    model = ['--model', name]
    settings = ['--model-options', *(f'{key}={value}' for key, value in options.items())]
    images = ['--images', 'images', '--input-size', str(side), '--workers', '0']
    trusted = model if name.partition(':')[0].endswith('.py') else []
    merged, pruned = 'merged/merge/network.safetensors', 'pruned/prune_channels/network.safetensors'
    return {
        'check': ['check', name, '--input-size', str(side), *settings],
        'merge': ['merge', 'a.pth', 'b.pth', *model, *settings, *images, 'samples=40', '--out', 'merged'],
        'modularize': ['modularize', merged, *trusted, *images, 'classes=["digit 3"]', 'target=0.5', '--out', 'module'],
        'prune': ['prune', merged, *trusted, *images, 'target=0.5', '--out', 'pruned'],
        'calibrate': ['calibrate', pruned, merged, *trusted, *images, '--out', 'calibrated'],
        'export': ['export', pruned, *trusted, *images, 'files=[small.onnx, small.pt2]', '--out', 'exported'],
        'run': ['run', 'pruned/config.py', '--work-dir', 'again']}


def make_files(folder: Path, name: str, options: Mapping[str, Any]) -> None:
    """Write digits in class folders, code of one's own, and two files of weights into a folder."""
    digits = load_digits()
    for number, (label, image) in enumerate(zip(digits.target[:150], digits.images, strict=False)):
        path = folder / 'images' / f'digit {label}' / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((15 * image).astype(np.uint8)).convert('RGB').save(path)
    (folder / 'my_nets.py').write_text(OWN)
    (folder / 'block.py').write_text(BLOCK)
    torch.manual_seed(0)
    with contextlib.chdir(folder):
        network = create(name, **options)
    for file in ('a.pth', 'b.pth'):
        torch.save({key: _disturbed(tensor) for key, tensor in network.state_dict().items()}, folder / file)


def _disturbed(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return tensor
    return tensor + 0.1 * tensor.std() * torch.randn_like(tensor)


def walk(folder: Path, library: str, names: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Run the commands for the network of one library.

    Yields:
        dict[str, Any]: ``library``, ``command``, ``seconds`` and ``result`` of each, in which numbers are those of the
        job; ``failed`` where it ended in an error.
    """
    name, options, side = NETWORKS[library]
    make_files(folder, name, options)
    with contextlib.chdir(folder):
        for command, line in commands(name, options, side).items():
            if names is None or command in names:
                said, started = io.StringIO(), time.process_time()
                row: dict[str, Any] = dict(library=library, command=command)
                try:
                    with contextlib.redirect_stdout(said):
                        main(line)
                    row['result'] = result_of(command, said.getvalue())
                except SystemExit as ended:
                    row.update(failed=True, result=' '.join(str(ended.code).split()))
                yield {**row, 'seconds': round(time.process_time() - started, 1)}


def result_of(command: str, said: str) -> str:
    """Return what a command made in one line."""
    if command == 'check':
        return re.search(r'\S+: [\d.]+ M parameters.*?image', ' '.join(said.split()))[0]
    out = dict(merge='merged', modularize='module', prune='pruned', calibrate='calibrated', export='exported',
               run='again')
    metrics = read_json(f'{out[command]}/metrics.json')
    stage = next(iter(metrics)).partition('/')[0]
    files = sorted(path.name for path in Path(out[command], stage).glob('small.*'))
    return f'{metrics[f"{stage}/parameters"]:,} parameters, {metrics[f"{stage}/macs"]:,} MACs' + ''.join(
        f', {file}' for file in files)


def run(args: Namespace) -> None:
    """Write the rows of some libraries; those of others that the file has stay."""
    written = read_json(args.out)['rows'] if args.out.is_file() else []
    known = {library: [row for row in written if row['library'] == library] for library in NETWORKS}
    for library in args.libraries:
        with TemporaryDirectory() as folder:
            known[library] = []
            for row in walk(Path(folder), library):
                print(json.dumps(row), file=sys.stderr, flush=True)
                known[library].append(row)
        write_json(args.out, dict(
            command='python tests/tools/command_walk.py --out docs/en/command_walk.json',
            networks={library: dict(model=name, options=options, side=side)
                      for library, (name, options, side) in NETWORKS.items()},
            rows=[row for library in NETWORKS for row in known[library]]))


if __name__ == '__main__':
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('--libraries', nargs='+', default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument('--out', type=Path, required=True)
    sys.exit(run(parser.parse_args()))
