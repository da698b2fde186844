"""The config of one job on networks and a folder of images, as a command line names them."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from mmreuse.engine.jobs.job import find_job
from mmreuse.errors import ConfigError
from mmreuse.modularization.structured.problem import groups_of
from mmreuse.networks import open_network, record_of, trust
from mmreuse.networks.own_code import absolute, is_own_code

#: Of images, where a network does not say how it sees them: ImageNet's.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
#: One of so many images is for the test where no folder of its own is given.
FOLDS = 5
#: What modules of one class call all others.
REST = 'rest'
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
    base = absolute(model) if is_own_code(model) else model
    return dict(base=base, weights=name, **(dict(options=dict(options)) if options else {}))


def trust_own(code: str | None) -> list[str]:
    """Allow networks to run the code that ``--model`` names, if it names any; return its name."""
    own = [absolute(code)] if code is not None and is_own_code(code) else []
    trust(*own)
    return own


def job_config(job: Mapping[str, Any], networks: Sequence[Any], images: Path, *, code: str | None = None,
               test: Path | None = None, validation: Path | None = None, input_size: Sequence[int] = (3, 224, 224),
               batch_size: int = 64, workers: int = 2, seed: int = 0) -> tuple[Config, list[nn.Module]]:
    """Return a config that ``tools/train.py`` runs, with nothing in it that is not said here; and the open networks.

    Args:
        job: Type and options.
        networks: References of :func:`mmreuse.networks.open_network`.
        images: Class folders: what the job works on.
        test: Likewise, what is measured on; by default a fifth of ``images``, which the job then does not see.
        validation: Likewise, for jobs that choose.
        code: ``FILE.py:FUNCTION``, which networks may run.
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
    own = trust_own(code)
    opened = [open_network(network) for network in networks]
    folders = sorted(each.name for each in Path(images).iterdir() if each.is_dir())
    test_problem, problem = _problems(job, opened, folders)
    _, height, width = input_size
    pipeline = [
        dict(type='mmpretrain.LoadImageFromFile'),
        dict(type='Resize', scale=(width, height), interpolation='bicubic'),
        dict(type='mmpretrain.PackInputs')]

    def loader(folder: Path, shuffle: bool, problem: Mapping[str, Any] | None, **fold: Any) -> dict[str, Any]:
        dataset = dict(type='CustomDataset', data_root=str(folder), pipeline=pipeline)
        if fold:
            dataset = dict(type='mmpretrain.KFoldDataset', fold=0, num_splits=FOLDS, seed=seed, **fold, dataset=dataset)
        if problem:
            dataset = dict(problem, dataset=dataset)
        return dict(batch_size=batch_size, num_workers=workers, sampler=dict(type='DefaultSampler', shuffle=shuffle),
                    dataset=dataset)

    loaders = dict(train_dataloader=loader(images, True, problem, **({} if test else dict(test_mode=False))),
                   test_dataloader=loader(test, False, test_problem) if test else
                   loader(images, False, test_problem, test_mode=True))
    if validation:
        loaders['val_dataloader'] = loader(validation, False, problem)
    config = Config(dict(
        default_scope='mmreuse', runner_type='PipelineRunner', seed=seed, **(dict(trust_code=own) if own else {}),
        stages=[dict(name=job['type'], networks=list(networks), job=dict(job))],
        data_preprocessor=preprocessing_of(opened[0] if opened else None), **loaders,
        test_evaluator=dict(type='mmpretrain.Accuracy', topk=(1,))))
    return config, opened


def _problems(job: Mapping[str, Any], networks: Sequence[nn.Module],
              folders: Sequence[str]) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return of which classes the images are that a job's network is measured on, and those that the job gets.

    A network without names for its outputs is taken to know all classes; the run holds their number against the data.

    Args:
        job: Type and options.
        networks: What it takes.
        folders: Names of all classes.

    Returns:
        tuple: Data sets without the data; None for all classes.
    """
    given = [list(map(str, record_of(network).classes)) or list(folders) for network in networks]
    found = find_job(job)
    outputs = found.classes(found.options, given, list(folders))
    return (None if isinstance(outputs, int) else _problem_of(outputs, folders),
            _problem_of(given[0], folders) if given and given.count(given[0]) == len(given) else None)


def _problem_of(outputs: Sequence[str], folders: Sequence[str]) -> dict[str, Any] | None:
    names = list(map(str, outputs))
    if len(names) == 2 and names[1] == REST and names[0] in folders and REST not in folders:
        return dict(type='BinaryProblem', target=names[0])
    groups = groups_of(names)
    if not set(names) <= set(folders) and all(name in folders for group in groups for name in group):
        return dict(type='ModuleProblem', classes=groups)
    return dict(type='ClassProblem', classes=names) if set(names) < set(folders) else None


def preprocessing_of(network: nn.Module | None) -> dict[str, Any]:
    """Return how a network sees images, or how ImageNet's networks do where it does not say."""
    known = record_of(network).preprocessing if network is not None else {}
    return {'type': 'mmpretrain.ClsDataPreprocessor', **(known or dict(mean=list(MEAN), std=list(STD), to_rgb=True))}
