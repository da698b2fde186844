"""Megabytes of ten modules of a ResNet-20 as files of their own beside the network's, and all in one file.

    python benchmarks/module_files.py --out configs/seam/results/module_files.json

One module for each class of CIFAR-10-JPEG against the rest. ``heads``: all channels, another last layer; ``channels``:
40 % of the multiply-accumulates; ``masks``: 15 % of the weights, the largest, which take as much room as learned ones,
behind a head. Sizes do not depend on the images; 20 of each class are read.
"""
import tempfile
from pathlib import Path

import torch
from _common import parse_args, write
from modules import read
from safetensors.torch import load_file

from mmreuse.modularization import ModuleHead, modularize_channels, record_module
from mmreuse.networks import create, save
from mmreuse.pruning import prune
from mmreuse.utils.files.paths import data_root


def main() -> None:
    args = parse_args(__doc__)
    torch.set_num_threads(1)
    net = create(dict(type='CifarResNet', depth=20, num_classes=10))
    net.load_state_dict(load_file(Path(data_root()) / 'weights' / 'cifar10_resnet20.safetensors'))
    data, problems = read('train', 0, 20), {str(number): [number] for number in range(10)}
    pruned = torch.nn.Sequential(prune(net.eval(), None, 0.85), ModuleHead(10, 2)).eval()
    masks = {name: value != 0 for name, value in pruned[0].named_parameters() if value.dim() > 1}
    kinds = dict(heads=modularize_channels(net, data, problems, target=1),
                 channels=modularize_channels(net, data, problems, target=0.4),
                 masks={name: record_module(pruned, net, masks, [name, 'rest']) for name in problems})
    results = {}
    for kind, modules in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            save(net, Path(folder, 'net.safetensors'))
            for name, module in modules.items():
                save(module, Path(folder, f'{name}.safetensors'))
            separate = sum(file.stat().st_size for file in Path(folder).iterdir())
            save(net, Path(folder, 'one.safetensors'), modules=modules)
            one = Path(folder, 'one.safetensors').stat().st_size
        results[kind] = dict(separate_mb=separate / 1e6, one_file_mb=one / 1e6, times_smaller=separate / one)
    write(args.out, results)


if __name__ == '__main__':
    main()
