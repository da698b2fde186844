"""Merging as the initialisation of a run."""
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmreuse.engine.merging import (
    cached_moments,
    matching_images,
    matching_report,
    merge_shared_sources,
    merge_sources,
)
from mmreuse.engine.unwrap_model import averages_follow, model_of, models_of, parameters_may_change, resumed
from mmreuse.merging.matching.requirements import needs_moments
from mmreuse.merging.matching.symmetries import wants_canonical
from mmreuse.merging.merge import check_merger
from mmreuse.merging.shared.merge_shared import Mergers, Scale
from mmreuse.models.classifiers import MergedClassifier
from mmreuse.networks import record_of, structure_of
from mmreuse.networks.record import set_record
from mmreuse.networks.references import Reference, open_network
from mmreuse.registry import HOOKS
from mmreuse.statistics import SpaceMoments
from mmreuse.utils.configs.methods import MethodLike
from mmreuse.utils.files.io import write_json

#: Where a checkpoint keeps how the network was made.
STRUCTURE = 'structure'


@HOOKS.register_module()
class MergeHook(Hook):
    """Merge the sources of a :class:`~mmreuse.models.MergedClassifier` before the first iteration.

    With ``train_cfg=dict(by_epoch=True, max_epochs=0)`` there is none, and the merge is saved and validated as it is;
    otherwise training goes on from it.

    Moments are taken on the images of the training loader, once: they are kept by content, and serve other
    matchers, hyper-parameters and stops. ``matching.json`` in the work_dir says what was joined, by space; the
    run's metrics gain ``merge/parameters``, ``merge/macs``, ``merge/matching_score`` and seconds by stage.

    Args:
        matcher: Name or config of :data:`mmreuse.registry.MATCHERS`.
        samples: How many images moments are taken of; None for all.
        overrides: Other matchers for some spaces, by regular expression.
        refit: Unmerge by least squares, see :func:`mmreuse.merging.matching.refit.refit`.
        merger: In place of the matcher, for sources that share an initialisation: name or config of
            :data:`mmreuse.registry.MERGERS`, or several to choose from. ``merger.json`` says what was tried.
        base: What the sources were fine-tuned from, a reference as :func:`mmreuse.networks.open_network` takes it.
        scale: Of the merged task vector, one or several to choose from; None for a grid.
        cache_dir: Where moments are kept.
    """
    priority = 'NORMAL'
    makes_network = True

    def __init__(self, matcher: MethodLike = 'zip', samples: int | None = None,
                 overrides: Mapping[str, MethodLike] | None = None, refit: bool = False,
                 merger: Mergers | None = None, base: Reference | None = None, scale: Scale = None,
                 cache_dir: str = 'work_dirs/cache') -> None:
        self.matcher = matcher
        self.samples = samples
        self.overrides = overrides
        self.refit = refit
        self.merger, self.base, self.scale = merger, base, scale
        self.cache_dir = cache_dir
        self.structure: dict[str, Any] | None = None

    def before_run(self, runner: Any) -> None:
        """Find what is wrong before weights are loaded.

        Raises:
            ConfigError: There is no such matcher, merger or option, or the model is no MergedClassifier.
            DataError: There are too few images.
        """
        if runner.train_loop is None:  # a test
            return
        if self.merger is not None:
            check_merger(self.merger, self.base, self.scale, True, matches=self.refit or bool(self.overrides))
        needs_moments(self.matcher, self.overrides)
        matchers = [self.matcher, *(self.overrides or {}).values()] if self.merger is None else []
        if wants_canonical(*matchers) and not model_of(runner, MergedClassifier).canonical:
            runner.logger.warning('Matchers that use more symmetries than permutations find few of them in networks as '
                                  'they are trained: set model.canonicalize=True.')
        matching_images(runner).check(self.samples, 'MergeHook')

    def before_train(self, runner: Any) -> None:
        """Merge, unless the run is resumed."""
        model = model_of(runner, MergedClassifier)
        if not resumed(runner):
            self._merge(runner, model) if self.merger is None else self._merge_shared(runner, model)
        elif self.structure is not None:
            for each in models_of(runner, MergedClassifier):
                set_record(each.merged, replace(record_of(each.merged), structure=self.structure))
        averages_follow(runner)

    def _merge(self, runner: Any, model: MergedClassifier) -> None:
        def moments() -> dict[str, SpaceMoments]:
            data = Config(dict(runner.cfg.train_dataloader)).to_dict()
            return cached_moments(model, matching_images(runner), self.samples, data, self.cache_dir)

        with parameters_may_change(runner):
            metrics = merge_sources(model, moments, self.matcher, overrides=self.overrides, refit=self.refit)
        runner.message_hub.update_scalars(metrics)
        report = matching_report(model)
        for name, item in report.items():
            runner.logger.info(f'{name}: {item["sizes"]} -> {item["merged"]} features, score {item["score"]}')
        if is_main_process():
            write_json(Path(runner.work_dir) / 'matching.json', report)

    def _merge_shared(self, runner: Any, model: MergedClassifier) -> None:
        base = None if self.base is None else open_network(self.base).to(model.data_preprocessor.device)
        with parameters_may_change(runner):
            metrics, report = merge_shared_sources(model, matching_images(runner), self.merger, base, scale=self.scale,
                                                   samples=self.samples)
        runner.message_hub.update_scalars(metrics)
        if is_main_process():
            write_json(Path(runner.work_dir) / 'merger.json', report)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Read how the network was made."""
        self.structure = checkpoint.get(STRUCTURE)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Note how the network was made, and leave times out of the file, so that equal merges give equal bytes."""
        checkpoint[STRUCTURE] = structure_of(model_of(runner, MergedClassifier).merged)
        hub = checkpoint['message_hub']
        for facts, place in ((checkpoint, 'meta'), (hub, 'runtime_info'), (hub, 'log_scalars')):
            facts[place] = {key: value for key, value in facts[place].items()
                            if key not in ('time', 'experiment_name') and not key.endswith('_seconds')}
