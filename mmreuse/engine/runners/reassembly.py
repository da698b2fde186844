"""The last stage of deep model reassembly: the search for the best assemblies."""
import hashlib
from collections import Counter
from collections.abc import Callable
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, is_main_process
from torch import Tensor
from torch.utils.data import DataLoader

from mmreuse.engine.runners.zoo_stage import ZooStage
from mmreuse.errors import ArtefactError
from mmreuse.reassembly.assembly.assembly import KEPT_PIECES, ComponentCache
from mmreuse.reassembly.assembly.emit import candidate_config, emit_candidates, load_finetune
from mmreuse.reassembly.assembly.fitted import FittedCache
from mmreuse.reassembly.assembly.genotype import Rules, describe
from mmreuse.reassembly.search.bounds import Bounds
from mmreuse.reassembly.search.halving import Budget, ShortTrainings
from mmreuse.reassembly.search.nearest import nearest_blocks
from mmreuse.reassembly.search.scoring import DEFAULT_PROXY, Scorer
from mmreuse.reassembly.search.search import Progress, SearchResult, like, random_assembly, search, time_candidates
from mmreuse.reassembly.search.trellis import Assemblies, build_assemblies, surrogate_values
from mmreuse.reassembly.similarity.next_head import next_head_similarity
from mmreuse.reassembly.zoo.costs import CostTable
from mmreuse.reassembly.zoo.outputs import outputs_of
from mmreuse.reassembly.zoo.structures import Candidate
from mmreuse.reassembly.zoo.zoo import Preprocess
from mmreuse.registry import PROXIES, RUNNERS
from mmreuse.utils.configs.methods import find_method
from mmreuse.utils.files.atomic import atomic_write
from mmreuse.utils.files.io import to_json
from mmreuse.utils.names import refuse_other


@RUNNERS.register_module()
class ReassemblyRunner(ZooStage):
    """Search the best assemblies within a budget and write them as configs that train.

    Config: ``reassembly`` with ``bounds`` (:class:`~mmreuse.reassembly.search.bounds.Bounds`), ``rules``
    (:class:`~mmreuse.reassembly.assembly.genotype.Rules`), ``proxy`` (``dict(type='ridge_probe')``), ``joints``
    (``'similarity'``; ``'next_head'``: the first guess compares joints as
    :mod:`~mmreuse.reassembly.similarity.next_head` does), ``nearest`` (None: all; of each stage and set only about so
    many blocks, see :func:`~mmreuse.reassembly.search.nearest.nearest_blocks`), ``num_batches`` (16) of
    ``batch_size`` (32) images that the proxy sees, ``teacher`` (the member that a proxy without labels asks; None:
    the largest), ``num_candidates`` (100), ``finalists`` (10), ``budget`` (None: do not train;
    :class:`~mmreuse.reassembly.search.halving.Budget` of the trainings that rank the finalists), ``top`` (5) configs
    to write, ``num_classes``, ``input_size``, ``latency`` (False: do not time the top), ``finetune`` (file with data,
    schedule and runtime that the written configs start from). Probes see candidates with joints fitted in closed
    form, other proxies with random ones, as published; trainings start from joints as those of ``finetune`` do.

    Writes ``reassembly/rank*.py``, ``random.py`` (a random assembly about as large as the best),
    ``candidates.json``, ``pareto.json`` and the logs ``scores-*.jsonl`` and ``trainings-*.jsonl``, from which a killed
    search goes on.
    """
    stage = 'reassembly'
    settings = ('zoo', 'data', 'reassembly')

    @cached_property
    def settled(self) -> dict[str, Any]:
        """Return the options, defaults filled in."""
        options = self.options('reassembly', dict(
            bounds={}, rules={}, proxy=dict(type=DEFAULT_PROXY), joints='similarity', nearest=None, num_batches=16,
            batch_size=32, teacher=None, num_candidates=100, finalists=10, budget=None, top=5, num_classes=1000,
            input_size=(224, 224), latency=False, finetune=''))
        # What is wrong with these shows before time is spent.
        self.require_counts('reassembly', options, num_batches=1, batch_size=1, num_candidates=1, finalists=1, top=1,
                            num_classes=1)
        options['bounds'] = self.section('reassembly.bounds', Bounds, options['bounds'])
        options['rules'] = self.section('reassembly.rules', Rules, options['rules'])
        find_method(PROXIES, options['proxy'])
        refuse_other('reassembly.joints', options['joints'], ('similarity', 'next_head'))
        if options['nearest'] is not None:
            self.require_counts('reassembly', options, nearest=1)
        if options['teacher'] is not None:
            refuse_other('reassembly.teacher', options['teacher'], self.zoo)
        if options['budget'] is not None:
            options['budget'] = self.section('reassembly.budget', Budget, options['budget'])
        load_finetune(options['finetune'], options['num_classes'])
        options['input_size'] = self.image_size('reassembly.input_size', options['input_size'])
        return options

    def inputs(self) -> dict[str, str]:
        options = self.settled
        for path, made_from in ((self.partition_file, self.partition.hashes),
                                (self.similarity_file, self.similarity.weights_hashes)):
            self.refuse_other_weights(path, made_from)
        if (known := self.partition.hashes.get('similarity')) not in (
                None, self.similarity.sub(list(self.partition.blocks)).content_hash()):
            raise ArtefactError(f'{self.partition_file}: was made from another similarity ({known}) than '
                                f'{self.similarity_file}. Run the partition stage again.')
        finetune = load_finetune(options['finetune'], options['num_classes']).to_dict()
        images = options['num_batches'] * options['batch_size']
        trained = {'training data': self.data_hash('data', options['budget'].samples)} if options['budget'] else {}
        return {**self.weights(), **trained, 'partition': self.artefact_hash(self.partition_file),
                'similarity': self.artefact_hash(self.similarity_file),
                'data': self.data_hash('data', images),
                'finetune': hashlib.sha256(to_json(finetune, 'finetune', sort_keys=True).encode()).hexdigest()}

    def assemblies(self) -> Assemblies:
        """Return everything that may be built from the partition, with its costs."""
        options = self.settled
        table = CostTable(self.zoo, self.nodes, options['num_classes'], options['input_size'],
                          latency=any(name.endswith('latency') for name in options['bounds'].given))
        partition = self.partition
        if options['nearest'] is not None:
            partition = nearest_blocks(partition, self.similarity, self.nodes, options['nearest'])
        return build_assemblies(partition, table, options['rules'])

    def execute(self) -> dict[str, Any]:
        # The search is one chain of decisions: the main process makes it, the others wait.
        metrics = [self._search() if is_main_process() else None]
        broadcast_object_list(metrics)
        return metrics[0]

    def _search(self) -> dict[str, Any]:
        options = self.settled
        self._require_memory()
        assemblies, batches = self.assemblies(), self._batches()
        images = [images for images, _ in batches]
        # By whether joints are fitted; scores and trainings of equal kind share what was built and fitted.
        pieces = cache(partial(self._pieces, images))
        scorer = Scorer(pieces(find_method(PROXIES, options['proxy']).fitted), batches, dict(options['proxy']),
                        self._goals(images), log=self._log('scores'))
        joints = None if options['joints'] == 'similarity' else next_head_similarity(
            assemblies, self.zoo, images, self._preprocess())
        values = surrogate_values(assemblies, self.partition, self.similarity, joints)
        result = search(
            assemblies, scorer, options['bounds'], values=values, num_candidates=options['num_candidates'],
            finalists=options['finalists'], seed=self.seed, trainings=self._trainings(pieces),
            callback=self._report)
        if options['latency']:
            result = time_candidates(result, scorer.pieces, options['input_size'], top=options['top'])
        emit_candidates(self.folder, result, self.zoo, self.nodes, num_classes=options['num_classes'],
                        input_size=options['input_size'], finetune=options['finetune'], top=options['top'])
        self._emit_random(assemblies, result.candidates[0])
        return _search_metrics(result)

    def _require_memory(self) -> None:
        """Refuse what does not fit: images of the proxy and of trainings, and weights."""
        options = self.settled
        images = self.num_samples('data', options['num_batches'] * options['batch_size'])
        if options['budget'] is not None:
            images += self.num_samples('data', options['budget'].samples)
        height, width = options['input_size']
        weights = 4 * sum(node.params for nodes in self.nodes.values() for node in nodes)
        self.require_memory(2 * 4 * 3 * images * height * width + min(KEPT_PIECES, weights),
                            'Take smaller reassembly.num_batches, batch_size, input_size or budget.samples.')

    def _pieces(self, images: list[Tensor], fitted: bool) -> ComponentCache:
        """Return what builds candidates, with joints that are random or fitted."""
        facts = (self.zoo, self.nodes, self.settled['num_classes'])
        more = dict(device=self.device, seed=self.seed)
        return FittedCache(images, self._preprocess(), *facts, **more) if fitted else ComponentCache(*facts, **more)

    def _goals(self, images: list[Tensor]) -> Tensor | None:
        """Return what the teacher says of the images, if the proxy asks one."""
        if 'goals' not in find_method(PROXIES, self.settled['proxy']).needs:
            return None
        size = {key: sum(node.params for node in nodes) for key, nodes in self.nodes.items()}
        teacher = self.settled['teacher'] or max(size, key=size.get)
        self.logger.info(f'reassembly: the teacher is {teacher}')
        return outputs_of(self.zoo[teacher], images, self._preprocess())

    def _trainings(self, pieces: Callable[[bool], ComponentCache]) -> ShortTrainings | None:
        """Return the short trainings that rank candidates, started as that of the written configs, if there are any."""
        options = self.settled
        if options['budget'] is None:
            return None
        config = load_finetune(options['finetune'], options['num_classes'])
        fitted = any(hook['type'] == 'StitchingInitHook' for hook in config.get('custom_hooks') or [])
        data = [torch.cat(each) for each in zip(*self._loaded(options['budget'].samples), strict=True)]
        return ShortTrainings(pieces(fitted), *data, options['budget'], seed=self.seed,
                              fixed_blocks=config.get('model', {}).get('backbone', {}).get('block_fixed', True),
                              log=self._log('trainings'))

    def _emit_random(self, assemblies: Assemblies, best: Candidate) -> None:
        """Write a random assembly about as large as the best, the baseline that the search must beat."""
        options = self.settled
        draws = (random_assembly(assemblies, like(best, tolerance), self.seed + draw)
                 for tolerance in (0.25, 0.5, 1.0) for draw in range(20))
        candidate = next((found for found in draws if found.genotype != best.genotype), None)
        if candidate is None:
            self.logger.warning('reassembly: nothing but the best is about as large; no random.py is written')
            return
        config = candidate_config(candidate, self.zoo, self.nodes, options['num_classes'], options['finetune'])
        with atomic_write(self.folder / 'random.py') as file:
            file.write(f'# A random assembly: {candidate.params:,} parameters, {candidate.flops:,} MACs.\n'
                       f'# {describe(candidate.genotype, self.nodes)}\n{config.pretty_text}')

    def _log(self, kind: str) -> Path:
        """Return the log of a search of these settings on these inputs; logs of others are removed."""
        facts = to_json([self.recorded_settings(), self.inputs(), self.seed], 'settings of the search', sort_keys=True)
        log = self.folder / f'{kind}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.jsonl'
        for other in self.folder.glob(f'{kind}-*.jsonl'):
            if other != log:
                other.unlink()
        return log

    def _batches(self) -> list[tuple[Tensor, Tensor]]:
        """Return the images that every candidate is scored on, of the size that the assembly will run at."""
        return self._loaded(self.settled['num_batches'] * self.settled['batch_size'])

    def _loaded(self, samples: int | None) -> list[tuple[Tensor, Tensor]]:
        view = self.sample_view(samples, self._preprocess(), size=self.settled['input_size'])
        loader = DataLoader(view, self.settled['batch_size'])
        return [(images.to(self.device), labels.to(self.device)) for images, labels in loader]

    def _preprocess(self) -> Preprocess:
        """Return the preprocessing of most of the zoo, in whatever order the zoo is declared."""
        counts = Counter(entry.preprocess for entry in self.zoo.values())
        return min(counts, key=lambda preprocess: (-counts[preprocess], repr(preprocess)))

    def _report(self, progress: Progress) -> None:
        score = list(progress.best.scores.values())[-1]
        self.logger.info(f'reassembly: {progress.scored} of {progress.planned} scored, best {score:.4g}: '
                         f'{describe(progress.best.genotype, self.nodes)}')


def _search_metrics(result: SearchResult) -> dict[str, Any]:
    best = result.candidates[0]
    return {'reassembly/evaluations': result.evaluations, 'reassembly/candidates': len(result.candidates),
            'reassembly/pareto': len(result.pareto), 'reassembly/exhaustive': result.exhaustive,
            'reassembly/feasible': result.feasible, 'reassembly/best_params': best.params,
            'reassembly/best_flops': best.flops, f'reassembly/best_{result.proxy}': best.scores[result.proxy]}
