"""Several trained classifiers merged into one, as a model of mmengine's Runner."""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.graph import verified_each
from mmreuse.merging import Matching, MergedModel, find_start, find_stop, recipe_of, skeleton, spaces_between
from mmreuse.merging.files import add_biases, record_merge
from mmreuse.merging.partial.preserve_points import Start
from mmreuse.merging.partial.stops import Place
from mmreuse.models.classifiers.sources import Scatter, build_source, class_scorer, common_preprocessor
from mmreuse.networks.record import record_of, set_record
from mmreuse.registry import MODELS
from mmreuse.utils.class_split import Classes, resolve_tasks
from mmreuse.utils.files.state_fit import check_fit


@MODELS.register_module()
class MergedClassifier(BaseModel):
    """N classifiers of one structure as one network, with one output for all tasks or one output per task.

    ``merged`` is the network; it alone is in the state dict, which is self-describing: a checkpoint of another
    stop, or with other widths, loads as well. The sources serve as architectures then, their weights are not needed.

    Args:
        sources: ``dict(config=PATH or model=CONFIG, checkpoint=PATH, name=TEXT)`` each, or paths of network files, see
            :func:`~mmreuse.models.classifiers.sources.build_source`.
        tasks: Class ids of every source's task, in the order of the sources, or a seeded split
            ``dict(num_classes=10, parts=2, seed=0)``. One list: all sources have the same task.
        input_size: Of an image, such as (3, 32, 32).
        num_classes: Number of all classes C; None: one more than the largest id of a task.
        start: Where the merge begins: a module, a share of the layers, ``dict(index=k)``, ``dict(gmacs=LIMIT)`` or
            ``dict(params=LIMIT)``, see :func:`mmreuse.merging.find_start`; None for the input.
        canonicalize: Bring the sources into canonical form first, in which they compute the same and transformers have
            more symmetries than permutations, see :func:`mmreuse.graph.canonicalize`. For matchers that use them, such
            as ``'procrustes'``.
        stop: Where it ends: a module, a share of the layers, or ``dict(gmacs=LIMIT)``, see
            :func:`mmreuse.merging.find_stop`; 0. for the ensemble, None to merge all, heads included.
        data_preprocessor: As in mmengine; None for that of the sources.
        init_cfg: As in mmengine.

    Raises:
        ConfigError: Tasks overlap, or do not fit the sources' heads; sources prepare their images differently.
        SpaceError: There is no such module, or the sources differ in what is to be merged.
        TraceError: A source cannot be traced.
    """

    def __init__(
        self,
        sources: Sequence[Mapping[str, Any]],
        tasks: Sequence[Classes] | Mapping[str, int],
        input_size: Sequence[int],
        *,
        num_classes: int | None = None,
        start: Start = None,
        stop: Place = None,
        canonicalize: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if not sources:
            raise ConfigError('MergedClassifier: there are no sources.')
        built = [build_source(source, number) for number, source in enumerate(sources)]
        super().__init__(common_preprocessor(built, data_preprocessor), init_cfg)
        self.input_size = tuple(input_size)
        image = torch.zeros(1, *self.input_size)
        self.canonical = canonicalize
        # In a list, so that they are in no state dict and no optimizer.
        self.sources = built = [source.in_canonical_form(image) for source in built] if canonicalize else built
        self.tasks = resolve_tasks(tasks)
        if len(self.tasks) not in (1, len(built)):
            raise ConfigError(f'MergedClassifier: {len(built)} sources with {len(self.tasks)} tasks. Give one list of '
                              'classes a source, or one for all.')
        if num_classes is None:
            num_classes = tasks['num_classes'] if isinstance(tasks, Mapping) else 1 + max(map(max, self.tasks))
        self.num_classes = num_classes
        own = self.tasks * len(built) if len(self.tasks) == 1 else self.tasks
        self.scorers = [class_scorer(source, image, classes, num_classes)
                        for source, classes in zip(built, own, strict=True)]
        self.graphs = verified_each([source.model for source in built], image)
        self.matchings: dict[str, Matching] = {}
        self.set_span(start, stop)

    @property
    def shares_outputs(self) -> bool:
        """Return whether the sources' outputs have one meaning, so that heads can be merged as well."""
        return len(self.tasks) == 1 or not any(isinstance(scorer, Scatter) for scorer in self.scorers)

    def set_span(self, start: Start = None, stop: Place = None) -> None:
        """Merge from ``start`` to ``stop`` from now on; where that is new, :attr:`merged` means nothing until then.

        Raises:
            ConfigError: Everything shall be merged, but the heads' outputs have no common meaning.
            SpaceError: As for the class.
        """
        start = find_start(self.graphs[0], start, len(self.graphs))
        stop = find_stop(self.graphs[0], stop, len(self.graphs))
        if stop is None and not self.shares_outputs:
            raise ConfigError('MergedClassifier: every source has outputs for the classes of its own task only, which '
                              'cannot be averaged. Give a stop before the heads, or sources that share one output '
                              'space (TextEmbeddingHead, or all classes).')
        if 'merged' in self._modules and (self.start, self.stop) == (start, stop):
            return
        self.start, self.stop = start, stop
        self.spaces = spaces_between(self.graphs[0], self.start, stop)
        sizes = {name: [graph.spaces[name].size for graph in self.graphs if name in graph.spaces]
                 for name in self.spaces}
        recipe = dict(start=self.start, stop=stop, models=len(self.graphs), dense=[],
                      sizes={name: widths[0] for name, widths in sizes.items() if len(set(widths)) > 1})
        self.merged = skeleton(self.graphs, recipe).to(self.data_preprocessor.device)
        self.matchings = {}

    def init_weights(self) -> None:
        """Load the sources' checkpoints.

        Raises:
            ConfigError: A source has no checkpoint.
            ArtefactError: A checkpoint is missing or does not fit.
        """
        for source in self.sources:
            source.load()

    def hold(self, merged: MergedModel, matcher: str, matchings: Mapping[str, Matching] | None = None) -> None:
        """Take a merge of the sources, from :attr:`start` to :attr:`stop`.

        Args:
            merged: The merge.
            matcher: Name of what merged them.
            matchings: By space, where there are any.
        """
        self.merged, self.matchings = merged, dict(matchings or {})
        record_merge(merged, [source.model for source in self.sources], torch.zeros(1, *self.input_size), matcher)
        classes = self.tasks[0] if len(self.tasks) == 1 else self.tasks
        set_record(merged, replace(record_of(merged), classes=classes))

    def plain_network(self) -> nn.Module:
        """Return :attr:`merged`, with its record and the classes of its outputs."""
        return self.merged

    def forward(self, inputs: Tensor, data_samples: list[DataSample] | None = None,
                mode: str = 'tensor') -> Any:
        """Compute outputs, predict, or compute the loss.

        Args:
            inputs: Images (B, ...), prepared.
            data_samples: One for each image: to be filled in, or with labels.
            mode: ``'tensor'``: what :attr:`merged` returns. ``'predict'``: data samples, each with
                ``task_scores`` (K, C): of one output, or of one output of each source, for all classes. ``'loss'``: of
                :meth:`loss`.

        Raises:
            ConfigError: ``mode`` is another.
        """
        if mode == 'tensor':
            return self.merged(inputs)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        raise ConfigError(f"MergedClassifier has no mode '{mode}'. There are 'tensor', 'predict' and 'loss'.")

    def scores(self, inputs: Tensor) -> Tensor:
        """Score all classes by every output, (B, K, C)."""
        outputs = self.merged(inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return torch.stack([score(output) for score, output in zip(self.scorers, outputs, strict=False)], dim=1)

    @torch.no_grad()
    def source_scores(self, inputs: Tensor) -> Tensor:
        """Score all classes by every source, (B, N, C)."""
        return torch.stack([score(source.model(inputs)) for score, source in zip(
            self.scorers, self.sources, strict=True)], dim=1)

    def owners(self, inputs: Tensor) -> Tensor:
        """Return the number of the source that is surest of a class of its task, (B,): labels do not say it."""
        scores = self.source_scores(inputs)
        sure = torch.stack([scores[:, number, task].log_softmax(-1).amax(-1)
                            for number, task in enumerate(self.tasks)], dim=1)
        return sure.argmax(1)

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Cross-entropy of every output on the images of its own task; one output for all tasks sees all images."""
        scores = self.scores(inputs)
        labels = torch.cat([sample.gt_label for sample in data_samples])
        seen = scores.new_ones(scores.shape[:2], dtype=torch.bool)
        if scores.shape[1] > 1:
            tasks = self.tasks * scores.shape[1] if len(self.tasks) == 1 else self.tasks
            seen = torch.stack([torch.isin(labels, labels.new_tensor(task)) for task in tasks], dim=1)
        images, outputs = seen.nonzero(as_tuple=True)
        total = F.cross_entropy(scores[images, outputs], labels[images], reduction='sum')
        return dict(loss=total / max(len(images), 1))

    def predict(self, inputs: Tensor, data_samples: list[DataSample] | None = None) -> list[DataSample]:
        """Score all classes by every output: see :meth:`forward`."""
        scores = self.scores(inputs)
        data_samples = data_samples or [DataSample() for _ in scores]
        for sample, own in zip(data_samples, scores, strict=True):
            sample.set_field(own, 'task_scores')
        return data_samples

    def _apply(self, fn: Callable, recurse: bool = True) -> 'MergedClassifier':
        """Let the sources follow to other devices and types."""
        for source in self.sources:
            source.model._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any) -> None:
        """Take on the structure that the state dict says, before its tensors are loaded.

        Raises:
            ArtefactError: It is not of a merged classifier, or of other sources.
        """
        if f'{prefix}recipe' in state_dict:  # of the merged network alone, as network files have it
            for key in [key for key in state_dict if key.startswith(prefix)]:
                state_dict[f'{prefix}merged.{key.removeprefix(prefix)}'] = state_dict.pop(key)
        recipe = recipe_of(state_dict, f'{prefix}merged.')
        merged = skeleton(self.graphs, recipe).to(self.data_preprocessor.device)
        add_biases(merged, state_dict, f'{prefix}merged.')
        self.start, self.stop = recipe['start'], recipe['stop']
        self.hold(merged, 'a matcher')
        # mmengine would only log what does not fit, and go on with random weights.
        own = self.merged.state_dict(prefix=f'{prefix}merged.')
        check_fit(own, {key: state_dict[key] for key in own if key in state_dict},
                  'the checkpoint is of other sources', 'Take the config it was made with.')
        super()._load_from_state_dict(state_dict, prefix, *args)
