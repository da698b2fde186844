"""A head into the space of class names, which networks of different classes share."""
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.registry import MODELS
from mmreuse.utils.class_split import Classes, resolve_classes
from mmreuse.utils.files.io import load_tensors
from mmreuse.utils.names import nearest


def orthonormal_features(num_classes: int, dims: int, seed: int = 0) -> Tensor:
    """Return class vectors without meaning, (num_classes, dims) float32 with orthonormal rows."""
    if dims < num_classes:
        raise ConfigError(f'{num_classes} orthonormal class vectors need as many dimensions, got dims = {dims}')
    generator = torch.Generator().manual_seed(seed)
    columns = torch.randn(dims, num_classes, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(columns).Q.T.float().contiguous()


@MODELS.register_module()
class TextEmbeddingHead(ClsHead):
    """Maps features to embeddings, which are compared with the embeddings of the class names.

    Logits are ``scale * cos(embedding, class vector)``. Networks trained on different classes so
    have outputs with one meaning, and can be merged up to and including the head (Stoica et al.,
    *ZipIt!*, 2024, section 5.1). :meth:`forward` gives embeddings; classes come in only behind it.

    Args:
        in_channels: Channels of the features.
        features: Class vectors: a safetensors file with a (C, D) tensor per set of classes, or
            ``dict(num_classes=C, dims=D, seed=0)`` for orthonormal ones.
        key: Which tensor of the file.
        classes: Ids of the classes that the network is trained on, see
            :func:`~mmreuse.utils.class_split.resolve_classes`; None: all C.
        scale: Inverse temperature of the cosine.
        **kwargs: Of ``ClsHead``.

    Raises:
        ArtefactError: The file is missing or has no such tensor.
        ConfigError: A class has no vector.
    """

    def __init__(self, in_channels: int, features: str | Mapping[str, int], key: str | None = None,
                 classes: Classes | None = None, scale: float = 100., **kwargs: Any) -> None:
        super().__init__(**kwargs)
        vectors = orthonormal_features(**features) if isinstance(features, Mapping) else _read(features, key)
        ids = list(range(len(vectors))) if classes is None else resolve_classes(classes)
        if max(ids) >= len(vectors):
            raise ConfigError(f'TextEmbeddingHead: class {max(ids)} has no vector; {features} holds {len(vectors)}')
        self.scale = scale
        self.fc = nn.Linear(in_channels, vectors.shape[1])
        self.register_buffer('class_vectors', F.normalize(vectors.float(), dim=1))
        # Not a buffer: heads of differently many classes are merged, and all their tensors must be alike.
        self.class_ids = ids

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Embed features (N, in_channels) of the last stage: (N, D)."""
        return self.fc(self.pre_logits(feats))

    def class_scores(self, embeddings: Tensor) -> Tensor:
        """Return logits of all classes, (N, D) -> (N, C), in single precision, since the scale magnifies rounding."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.scale * F.normalize(embeddings.float(), dim=1) @ self.class_vectors.T

    def _get_loss(self, cls_score: Tensor, data_samples: list, **kwargs: Any) -> dict[str, Tensor]:
        """Cross-entropy over the head's own classes. ``cls_score`` are embeddings, as :meth:`forward` gives them."""
        labels = torch.cat([sample.gt_label for sample in data_samples])
        position = torch.full((len(self.class_vectors),), -1, device=labels.device)
        position[self.class_ids] = torch.arange(len(self.class_ids), device=labels.device)
        targets = position[labels]
        if (targets < 0).any():
            foreign = sorted(set(labels[targets < 0].tolist()))
            raise ConfigError(f'TextEmbeddingHead: the data has the labels {foreign}, which are not among its classes '
                              f'{self.class_ids}. Wrap the data set in ClassSubset with the same classes.')
        scores = self.class_scores(cls_score)[:, self.class_ids]
        return {'loss': self.loss_module(scores, targets, avg_factor=len(scores), **kwargs)}

    def _get_predictions(self, cls_score: Tensor, data_samples: list | None) -> list:
        """Return scores over all classes, 0 for those that are not the head's own."""
        scores = self.class_scores(cls_score)
        own = torch.full_like(scores, -torch.inf)
        own[:, self.class_ids] = scores[:, self.class_ids]
        return super()._get_predictions(own, data_samples)


def _read(path: str, key: str | None) -> Tensor:
    tensors, _ = load_tensors(path)
    if key is None and len(tensors) == 1:
        return next(iter(tensors.values()))
    if key not in tensors:
        raise ArtefactError(f"{path}: there are no class vectors '{key}'. {nearest(str(key), tensors)}")
    return tensors[key]
