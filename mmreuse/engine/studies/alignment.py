"""Align trained networks to the first, from a config and checkpoints."""
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config

from mmreuse.engine.classifiers import load_classifier, training_images
from mmreuse.merging import align
from mmreuse.registry import MATCHERS
from mmreuse.statistics.cached_loader import CachedLoader
from mmreuse.utils.configs.methods import MethodLike, find_method
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.files.io import file_hash


def align_checkpoints(cfg: Config, checkpoints: Sequence[str | Path], matcher: MethodLike = 'weight_matching', *,
                      samples: int | None = None) -> list[Path]:
    """Write every network with its features in the order of the first's: the same function, fit to be averaged.

    Args:
        cfg: Config, ready to run, with the ``model`` and ``train_dataloader`` that they were trained with.
        checkpoints: Two or more.
        matcher: Name or config of a matcher that permutes.
        samples: How many training images a matcher that looks at features sees; None for all.

    Returns:
        list[Path]: ``<work_dir>/<name>_aligned.pth`` for each checkpoint but the first. Their ``meta`` says to what,
        how, and the cosine of the parameters with those of the first.

    Raises:
        ConfigError: There is no such matcher, or it does more than permute.
        ArtefactError: A checkpoint is missing or of another architecture.
        SpaceError: The networks differ in structure.
    """
    find_method(MATCHERS, matcher)
    models = [load_classifier(cfg, path) for path in checkpoints]
    images = CachedLoader(training_images(cfg, int(cfg.get('seed') or 0)), models[0])
    aligned = align(models, images, matcher, inputs=torch.zeros_like(next(iter(images))[:1]), samples=samples)
    written = []
    for path, model, cosine in list(zip(checkpoints, aligned, aligned.cosines, strict=True))[1:]:
        written.append(Path(cfg.work_dir, f'{Path(path).stem}_aligned.pth'))
        meta = dict(aligned_to=file_hash(checkpoints[0]), made_from=file_hash(path), matcher=str(matcher),
                    cosine=cosine)
        with atomic_path(written[-1]) as temporary:
            torch.save(dict(state_dict=model.state_dict(), meta=meta), temporary)
    return written
