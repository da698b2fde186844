"""The head into the space of class names."""
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.models.heads.text_embedding import TextEmbeddingHead, orthonormal_features
from mmreuse.registry import MODELS
from mmreuse.utils.files.io import save_tensors

LOSS = dict(type='mmpretrain.CrossEntropyLoss')


def samples(labels: list[int]) -> list[DataSample]:
    return [DataSample().set_gt_label(label) for label in labels]


def test_loss_is_cross_entropy_over_the_heads_own_classes() -> None:
    torch.manual_seed(0)
    head = MODELS.build(dict(type='mmreuse.TextEmbeddingHead', in_channels=6, loss=LOSS, classes=[4, 1, 2],
                             features=dict(num_classes=5, dims=8, seed=3)))
    feats = (torch.randn(7, 6),)
    labels = [1, 2, 4, 4, 1, 2, 1]
    cosine = F.normalize(head.fc(feats[0]).double(), dim=1) @ orthonormal_features(5, 8, 3).double().T
    expected = F.cross_entropy(100 * cosine[:, [1, 2, 4]], torch.tensor([{1: 0, 2: 1, 4: 2}[it] for it in labels]))
    torch.testing.assert_close(head.loss(feats, samples(labels))['loss'].double(), expected, rtol=1e-4, atol=1e-4)


def test_predicts_none_but_its_own_classes_and_scores_all() -> None:
    torch.manual_seed(0)
    head = TextEmbeddingHead(6, dict(num_classes=5, dims=5), classes=[1, 3], loss=LOSS)
    feats = (torch.randn(50, 6),)
    predicted = head.predict(feats)
    assert {int(sample.pred_label) for sample in predicted} == {1, 3}
    assert predicted[0].pred_score[[0, 2, 4]].sum() == 0
    scores = head.class_scores(head(feats))
    assert scores.shape == (50, 5)
    assert len(scores.argmax(1).unique()) == 5
    # the orthonormal vectors span the whole space here, so the squared cosines sum to one
    torch.testing.assert_close((scores / 100).square().sum(1), torch.ones(50))


def test_reads_class_vectors_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / 'vectors.safetensors'
    vectors = 3 * torch.randn(4, 7)
    save_tensors(path, {'birds': vectors, 'dogs': torch.randn(2, 7)}, {})
    head = TextEmbeddingHead(6, str(path), key='birds', loss=LOSS)
    torch.testing.assert_close(head.class_vectors, F.normalize(vectors, dim=1))
    with pytest.raises(ArtefactError, match='bird.*Nearest.*birds'):
        TextEmbeddingHead(6, str(path), key='bird', loss=LOSS)
    with pytest.raises(ArtefactError, match='nothing.safetensors'):
        TextEmbeddingHead(6, str(tmp_path / 'nothing.safetensors'), loss=LOSS)


def test_classes_without_vectors_and_foreign_labels_are_refused() -> None:
    with pytest.raises(ConfigError, match='class 9 has no vector'):
        TextEmbeddingHead(6, dict(num_classes=5, dims=5), classes=[0, 9], loss=LOSS)
    with pytest.raises(ConfigError, match='need as many dimensions'):
        TextEmbeddingHead(6, dict(num_classes=5, dims=4), loss=LOSS)
    head = TextEmbeddingHead(6, dict(num_classes=5, dims=5), classes=[0, 1], loss=LOSS)
    with pytest.raises(ConfigError, match=r'labels \[4\].*ClassSubset'):
        head.loss((torch.randn(2, 6),), samples([0, 4]))
