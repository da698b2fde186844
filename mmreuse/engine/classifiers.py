"""Load the classifier of a config, and the images that it was trained on."""
import copy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner, set_random_seed
from torch import nn
from torch.utils.data import DataLoader

from mmreuse.models.classifiers import NetworkClassifier
from mmreuse.networks import is_network_file
from mmreuse.registry import MODELS
from mmreuse.utils.files.io import load_checkpoint
from mmreuse.utils.files.state_fit import load_strictly, weights_of


def load_classifier(cfg: Config, path: str | Path, device: str | torch.device | None = None) -> nn.Module:
    """Return the classifier of a config with the weights of a checkpoint, or the network of a network file.

    Args:
        cfg: Config with a ``model``: a classifier, or the :class:`~mmreuse.models.ClassifierPair` it was trained in.
        path: Checkpoint or network file.
        device: Where to put it; the best present by default.

    Returns:
        nn.Module: In evaluation mode.

    Raises:
        ArtefactError: The checkpoint is missing, or does not fit.
    """
    model_cfg = plain(cfg.model)
    model_cfg = {'data_preprocessor': plain(cfg.get('data_preprocessor')), **model_cfg.get('classifier', model_cfg)}
    if is_network_file(path):
        model = NetworkClassifier(path, model_cfg['data_preprocessor'])
    else:
        model = MODELS.build({**model_cfg, 'init_cfg': None})
        load_strictly(model, weights_of(load_checkpoint(path), path), path)
    return model.to(device or get_device()).eval()


def training_images(cfg: Config, seed: int) -> DataLoader:
    """Return the training images of a config in the order, and with the augmentation, that a seed gives them."""
    set_random_seed(seed)
    return Runner.build_dataloader(plain(cfg.train_dataloader), seed=seed)


def plain(cfg: Any) -> Any:
    """Return a part of a config as plain containers of its own, which what is built may change."""
    return copy.deepcopy(cfg.to_dict() if isinstance(cfg, Config) or hasattr(cfg, 'to_dict') else cfg)
