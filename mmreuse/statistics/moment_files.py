"""Moments of feature spaces on disk."""
from collections.abc import Mapping

from mmreuse.errors import ArtefactError
from mmreuse.statistics.moments import SpaceMoments
from mmreuse.utils.files.io import PathLike, load_tensors, save_tensors


def save_moments(path: PathLike, moments: Mapping[str, SpaceMoments]) -> None:
    """Write moments by space as one safetensors file, atomically."""
    tensors = {}
    for name, each in moments.items():
        tensors |= {f'{name}/mean': each.mean, f'{name}/covariance': each.covariance}
    save_tensors(path, tensors, dict(
        spaces={name: dict(count=each.count, sizes=each.sizes, samples=each.samples)
                for name, each in moments.items()}))


def load_moments(path: PathLike) -> dict[str, SpaceMoments]:
    """Read what :func:`save_moments` wrote, to the CPU, where matchers work.

    Raises:
        ArtefactError: The file is missing, damaged or of another kind.
    """
    tensors, metadata = load_tensors(path)
    if not isinstance(metadata.get('spaces'), dict):
        raise ArtefactError(f'{path}: holds no moments of feature spaces. Delete it and take them again.')
    return {name: SpaceMoments(facts['count'], tensors[f'{name}/mean'], tensors[f'{name}/covariance'], facts['sizes'],
                               facts.get('samples'))
            for name, facts in metadata['spaces'].items()}
