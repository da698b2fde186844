"""The published similarity files: one NumPy pickle ``net1.net2.pkl`` a pair of networks, self pairs included.

Each holds ``dict(sim=(L1, L2) float32, model1=dict(arch, model_name), model2=...)`` with the
similarity of node outputs; inputs of first nodes are not in it. A pickle can run anything, so these
are read as data (:mod:`mmreuse.utils.files.numpy_pickle`), never unpickled.
"""
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import torch

from mmreuse.errors import ArtefactError
from mmreuse.reassembly.similarity.similarity_matrix import SimilarityMatrix, row_offsets
from mmreuse.utils.files.io import PathLike
from mmreuse.utils.files.numpy_pickle import load_numpy_pickle

#: Missing pairs that an error names.
_LISTED = 50


def import_published(folder: PathLike, node_names: Mapping[str, Sequence[str]],
                     metric: str = 'cka') -> SimilarityMatrix:
    """Read the files of a zoo, whichever network of a pair comes first in them.

    A pair gives both directions: the transpose stands for the other one.

    Args:
        folder: Holds the ``.pkl`` files; names of networks are taken from inside them.
        node_names: Names of the nodes of each wanted network, in the order of the rows (execution order). Files of
            other networks are left alone.
        metric: What the files hold; they do not say.

    Returns:
        SimilarityMatrix: ``has_inputs=False``; rows and columns of first inputs are NaN.

    Raises:
        ArtefactError: Pairs are missing, a file is truncated, holds more than
            arrays and plain values, or does not fit the nodes.
    """
    keys = tuple(node_names)
    offsets = row_offsets(node_names)
    start = dict(zip(keys, offsets, strict=False))
    values = torch.full((offsets[-1], offsets[-1]), float('nan'))
    missing = set(combinations_with_replacement(keys, 2))
    for path in sorted(Path(folder).glob('*.pkl')):
        left, right, pair = read_pair(path)
        if left not in start or right not in start:
            continue
        expected = (len(node_names[left]), len(node_names[right]))
        if pair.shape != expected:
            raise ArtefactError(f'{path}: holds {tuple(pair.shape)} similarities where {left} and {right} have '
                                f'{expected} nodes. It is of other networks, or made with another list of nodes.')
        rows = slice(start[left] + 1, start[left] + 1 + pair.shape[0])
        columns = slice(start[right] + 1, start[right] + 1 + pair.shape[1])
        values[columns, rows] = pair.T
        values[rows, columns] = pair
        missing -= {(left, right), (right, left)}
    if missing:
        pairs = ', '.join(' - '.join(pair) for pair in sorted(missing)[:_LISTED])
        raise ArtefactError(f'{folder}: no similarity file for {len(missing)} pairs of networks: {pairs}'
                            f'{", ..." if len(missing) > _LISTED else ""}. Compute them, or leave these networks out.')
    inner = values[~values.isnan()]
    if len(inner) != sum(len(names) for names in node_names.values())**2:
        raise ArtefactError(f'{folder}: some similarities are NaN, as the published code makes them of an empty chunk. '
                            f'Compute them again.')
    return SimilarityMatrix(
        keys=keys, offsets=offsets, values=values, metric=metric,
        symmetric=bool(torch.equal(values.nan_to_num(), values.nan_to_num().T)),
        node_names={key: tuple(names) for key, names in node_names.items()}, has_inputs=False)


def read_pair(path: PathLike) -> tuple[str, str, torch.Tensor]:
    """Return the names of the two networks and their similarities (L1, L2) from one published file.

    Raises:
        ArtefactError: The file is truncated, or holds more than arrays and plain values.
    """
    with open(path, 'rb') as file:
        content = load_numpy_pickle(file, str(path))
    try:
        values = content['sim']
        names = [content[model]['model_name'] for model in ('model1', 'model2')]
    except (KeyError, TypeError) as error:
        raise ArtefactError(f'{path}: is not a published similarity file: it lacks {error}.') from error
    if not isinstance(values, np.ndarray) or values.dtype.kind != 'f' or values.ndim != 2:
        raise ArtefactError(f'{path}: sim is a {type(values).__name__}, not a matrix of floats.')
    if not all(isinstance(name, str) for name in names):
        raise ArtefactError(f'{path}: model_name is not the name of a network.')
    return names[0], names[1], torch.from_numpy(values.astype(np.float32))
