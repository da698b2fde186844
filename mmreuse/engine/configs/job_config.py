"""The config of one job on networks and a folder of images, as a command line names them."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmreuse.errors import ConfigError
from mmreuse.networks import open_network, record_of

#: Of images, where a network does not say how it sees them: ImageNet's.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
#: One of so many images is for the test where no folder of its own is given.
FOLDS = 5
_WEIGHTS = ('.pth', '.pt', '.bin', '.ckpt')


def reference_of(name: str, model: str | None, options: Mapping[str, Any]) -> Any:
    """Return what a config calls a network that a command line names.

    Args:
        name: Network file, config, or file of weights.
        model: What weights are of, ``'timm:resnet18'``.
        options: Of the model.

    Raises:
        ConfigError: Weights are of no model.
    """
    if Path(name).suffix not in _WEIGHTS:
        return name
    if model is None:
        raise ConfigError(f"'{name}' has weights alone: say of which network, for instance --model timm:resnet18 "
                          '--model-options num_classes=10.')
    return dict(base=model, weights=name, **(dict(options=dict(options)) if options else {}))


def job_config(job: Mapping[str, Any], networks: Sequence[Any], images: Path, *, test: Path | None = None,
               validation: Path | None = None, input_size: Sequence[int] = (3, 224, 224), batch_size: int = 64,
               workers: int = 2, seed: int = 0) -> Config:
    """Return a config that ``tools/train.py`` runs, with nothing in it that is not said here.

    Args:
        job: Type and options.
        networks: References of :func:`mmreuse.networks.open_network`.
        images: Class folders: what the job works on.
        test: Likewise, what is measured on; by default a fifth of ``images``, which the job then does not see.
        validation: Likewise, for jobs that choose.
        input_size: Channels, height and width.
        batch_size: Images at once.
        workers: Processes that read images.
        seed: Of everything drawn.

    Raises:
        ConfigError: There is no such folder, or networks see images in different ways.
        ArtefactError: A network is missing or damaged.
    """
    for folder in filter(None, (images, test, validation)):
        if not Path(folder).is_dir():
            raise ConfigError(f"'{folder}': there is no such folder of images. Check the path.")
    _, height, width = input_size
    pipeline = [
        dict(type='mmpretrain.LoadImageFromFile'),
        dict(type='Resize', scale=(width, height), interpolation='bicubic'),
        dict(type='mmpretrain.PackInputs')]

    def loader(folder: Path, shuffle: bool, **fold: Any) -> dict[str, Any]:
        dataset = dict(type='CustomDataset', data_root=str(folder), pipeline=pipeline)
        if fold:
            dataset = dict(type='mmpretrain.KFoldDataset', fold=0, num_splits=FOLDS, seed=seed, **fold, dataset=dataset)
        return dict(batch_size=batch_size, num_workers=workers, sampler=dict(type='DefaultSampler', shuffle=shuffle),
                    dataset=dataset)

    loaders = dict(train_dataloader=loader(images, True, **({} if test else dict(test_mode=False))),
                   test_dataloader=loader(test, False) if test else loader(images, False, test_mode=True))
    if validation:
        loaders['val_dataloader'] = loader(validation, False)
    return Config(dict(
        default_scope='mmreuse', runner_type='PipelineRunner', seed=seed,
        stages=[dict(name=job['type'], networks=list(networks), job=dict(job))],
        data_preprocessor=_preprocessing(networks), **loaders,
        test_evaluator=dict(type='mmpretrain.Accuracy', topk=(1,))))


def _preprocessing(networks: Sequence[Any]) -> dict[str, Any]:
    """Return how the first network sees images, or as ImageNet's networks do."""
    known = record_of(open_network(networks[0])).preprocessing if networks else {}
    return dict(known) or dict(type='mmpretrain.ClsDataPreprocessor', mean=list(MEAN), std=list(STD), to_rgb=True)
