"""Convert the published weights of an MLP-Mixer, NumPy arrays named by JAX, for timm's network.

    python tools/model_converters/mixer_jax_to_timm.py Mixer-B_16.npz mixer_b16_224

The file is one of those at ``storage.googleapis.com/mixer_models``. The network expects images scaled to [-1, 1].
"""
from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mmreuse.command_line import ToolParser, run_tool, save_weights

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

#: Parts of the names, in the order in which they are replaced.
NAMES = [(r'^MixerBlock_(\d+)/', r'blocks.\1.'), (r'^stem/', 'stem.proj.'), (r'^pre_head_layer_norm/', 'norm.'),
         ('LayerNorm_0', 'norm1'), ('LayerNorm_1', 'norm2'), ('token_mixing/', 'mlp_tokens.'),
         ('channel_mixing/', 'mlp_channels.'), ('Dense_0', 'fc1'), ('Dense_1', 'fc2'), ('/?(kernel|scale)$', '.weight'),
         ('/?bias$', '.bias'), (r'\.\.', '.')]


def timm_name(name: str) -> str:
    """Return timm's name of a tensor."""
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def convert(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Give arrays timm's names and layouts: kernels (inputs, outputs), (H, W, inputs, outputs) with outputs first."""
    import numpy as np
    import torch
    return {timm_name(name): torch.from_numpy(np.ascontiguousarray(
        array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T)) for name, array in arrays.items()}


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('arrays', type=Path, help='.npz file')
    parser.add_argument('model', help='name of the network in timm')
    parser.add_argument('--out', type=Path, help='default: beside the file, <model>.safetensors')
    return parser.parse_args()


def run(args: Namespace) -> None:
    import timm
    import torch

    from mmreuse.utils.files.io import file_hash, load_arrays
    from mmreuse.utils.files.state_fit import check_fit
    state = convert(load_arrays(args.arrays))
    with torch.device('meta'):
        check_fit(timm.create_model(args.model).state_dict(), state, f'{args.arrays}: the file is of another network',
                  'Give the name of its architecture.')
    save_weights(args.out or args.arrays.with_name(f'{args.model}.safetensors'), state,
                 source=args.arrays.name, source_hash=file_hash(args.arrays))


if __name__ == '__main__':
    run_tool(run, parse_args())
