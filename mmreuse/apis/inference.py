"""Tell what is on images, in the manner of mmpretrain's inferencers."""
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from torch import Tensor

from mmreuse.datasets.image_files import files_below, read_image
from mmreuse.engine.configs.job_config import preprocessing_of
from mmreuse.errors import ConfigError, DataError
from mmreuse.networks import open_network, record_of
from mmreuse.networks.references import Reference
from mmreuse.registry import MODELS
from mmreuse.statistics.data import logits_of

Images = str | Path | np.ndarray | Sequence[str | Path | np.ndarray]


class NetworkInferencer:
    """Classifies images with any network, as its file says that they are seen.

    ::

        inferencer = NetworkInferencer('merged/merge/network.safetensors')
        for found in inferencer('photos/'):
            print(found['path'], found['pred_class'], found['pred_score'])

    Args:
        network: A network, or a reference of :func:`mmreuse.networks.open_network`.
        classes: Names of its outputs, in their order; one list for each output of a network with several. By default
            those of its file, else numbers.
        input_size: Height and width that images are resized to; by default those of its file.
        device: Where it runs.

    Raises:
        ConfigError: Neither the file nor ``input_size`` says how large images are.
    """

    def __init__(self, network: Reference, *, classes: Sequence[Any] | None = None,
                 input_size: tuple[int, int] | None = None, device: str | torch.device = 'cpu') -> None:
        self.network = open_network(network).to(device).eval()
        record = record_of(self.network)
        if input_size is None and not record.inputs:
            raise ConfigError('it is not known how large the images of the network are: give input_size=(H, W).')
        self.size = tuple(input_size or record.inputs[0][0][-2:])
        self.classes = list(record.classes if classes is None else classes)
        self.prepare = MODELS.build(preprocessing_of(self.network)).to(device)

    @torch.no_grad()
    def __call__(self, images: Images, *, batch_size: int = 32, top_k: int = 5) -> list[dict[str, Any]]:
        """Classify images.

        Args:
            images: A file, a folder of them, an array (H, W, 3) in BGR as mmcv reads it, or several of these.
            batch_size: Images at once.
            top_k: How many of the likeliest classes are named.

        Returns:
            list[dict]: For each image ``pred_label``, ``pred_class`` and ``pred_score`` of the likeliest class,
            ``pred_scores`` (C,) of all and ``top``, the names and scores of the likeliest ones; ``path``, where it was
            read; of a network with an output for each task ``tasks``, a list of such dictionaries in their place.

        Raises:
            DataError: An image cannot be read, or there are other numbers of outputs than names of classes.
        """
        found: list[dict[str, Any]] = []
        given = list(_listed(images))
        for start in range(0, len(given), batch_size):
            batch = given[start:start + batch_size]
            inputs = self.prepare(dict(inputs=[self._read(each) for each in batch]))['inputs']
            tasks = [self._told(scores, names, top_k) for scores, names in self._outputs(self.network(inputs))]
            for image, own in zip(batch, zip(*tasks, strict=True), strict=True):
                path = {} if isinstance(image, np.ndarray) else dict(path=str(image))
                found.append({**path, **(own[0] if len(own) == 1 else dict(tasks=list(own)))})
        return found

    def _read(self, image: str | Path | np.ndarray) -> Tensor:
        image = image if isinstance(image, np.ndarray) else read_image(str(image))
        resized = mmcv.imresize(image, self.size[::-1], interpolation='bicubic')
        return torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))

    def _outputs(self, output: Any) -> Iterator[tuple[Tensor, Sequence[Any]]]:
        """Yield scores (B, C) of each task, with the names of its classes."""
        several = isinstance(output, tuple | list) and len(output) > 1 and all(
            getattr(logits_of(each), 'ndim', 0) == 2 for each in output)
        parts = [logits_of(each) for each in output] if several else [logits_of(output)]
        named = self.classes if several else [self.classes]
        for number, scores in enumerate(parts):
            names = list(named[number]) if number < len(named) and named[number] else list(range(scores.shape[1]))
            if len(names) != scores.shape[1]:
                raise DataError(f'the network has {scores.shape[1]} outputs, and {len(names)} classes are named: '
                                f'{names[:5]}. Give classes=, one name for each.')
            yield scores, names

    @staticmethod
    def _told(scores: Tensor, names: Sequence[Any], top_k: int) -> list[dict[str, Any]]:
        told = []
        for own in scores.float().softmax(1).cpu():
            best, places = own.topk(min(top_k, len(own)))
            top = [dict(label=place, name=names[place], score=score)
                   for score, place in zip(best.tolist(), places.tolist(), strict=True)]
            told.append(dict(pred_label=top[0]['label'], pred_class=top[0]['name'], pred_score=top[0]['score'],
                             pred_scores=own.numpy(), top=top))
        return told


def _listed(images: Images) -> Iterator[str | Path | np.ndarray]:
    """Yield single images, those of a folder in the order of their names."""
    if isinstance(images, str | Path) and Path(images).is_dir():
        yield from (Path(images, name) for name in sorted(files_below(images)))
    elif isinstance(images, str | Path) or isinstance(images, np.ndarray) and images.ndim == 3:
        yield images
    else:
        for each in images:
            yield from _listed(each)
