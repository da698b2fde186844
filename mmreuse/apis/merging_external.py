"""Networks that other programs merged or trained, in the terms of a study."""
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmreuse.apis.merging_study import Measured, MergingStudy
from mmreuse.errors import ArtefactError
from mmreuse.models.classifiers.plain import convert
from mmreuse.utils.io import load_arrays, load_checkpoint

_PICKLES = ('.pkl', '.pickle')
_FOLDER = re.compile(r'\d+(_\d+)*')


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read tensors by name from safetensors, NumPy's ``.npz``, or a ``torch.save`` file of plain values.

    Raises:
        ArtefactError: The file is missing, damaged, a pickle, or holds more than tensors.
    """
    path = Path(path)
    if path.suffix in _PICKLES:
        raise ArtefactError(f'{path}: is a pickle, and reading one runs code from it. Save the weights as .safetensors '
                            'or .npz where they come from.')
    if path.suffix == '.npz' and path.is_file():
        try:
            return {name: torch.from_numpy(array) for name, array in load_arrays(path).items()}
        except TypeError as error:  # text, say
            raise ArtefactError(f'{path}: holds more than numbers ({error}).') from error
    checkpoint = load_checkpoint(path)
    state = checkpoint.get('state_dict', checkpoint)
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def measure_external(study: MergingStudy, path: str | Path, split: str = 'val') -> Measured:
    """Measure a network of the sources' architecture that was merged elsewhere, its batch norms reset.

    Names may be a plain net's or Git Re-Basin's, see :func:`mmreuse.models.classifiers.plain.convert`; running
    statistics need not be there.

    Raises:
        ArtefactError: The file cannot be read or does not fit.
    """
    model = study.alone(0)
    classifier = model.sources[0].model
    classifier.load_state_dict(convert(read_weights(path), classifier, statistics=False))
    model.merge(None, 'identity')
    return study.measure(model, split)


def published_checkpoints(folder: str | Path, name: str) -> dict[str, Path]:
    """Checkpoints ``<folder>/<class ids joined by _>/<name>_v0.pth.tar``, the newest version, by class ids.

    Raises:
        ArtefactError: There are none.
    """
    found = {}
    for path in sorted(Path(folder).glob(f'*/{name}_v*.pth.tar'), key=_version):
        if _FOLDER.fullmatch(path.parent.name):
            found[path.parent.name] = path
    if not found:
        raise ArtefactError(f'{folder}: there is no <class ids>/{name}_v0.pth.tar.')
    return found


def _version(path: Path) -> int:
    return int(re.fullmatch(r'.*_v(\d+)\.pth\.tar', path.name)[1])


def disjoint_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of folder names without a common class id."""
    ids = {name: set(name.split('_')) for name in sorted(names)}
    return [(first, second) for first in ids for second in ids if first < second and not ids[first] & ids[second]]
