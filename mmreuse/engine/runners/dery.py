"""The stages of deep model reassembly, from a zoo to ranked configs that train."""
import shutil
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from torch.utils.data import DataLoader

from mmreuse.engine.reports.reassembly import report_reassembly
from mmreuse.engine.runners.reassembly import ReassemblyRunner
from mmreuse.engine.runners.zoo_stage import ZooStage
from mmreuse.reassembly.partition.files import save_partition
from mmreuse.reassembly.partition.partition import check_options, partition
from mmreuse.reassembly.partition.solver import PAIRS_AT_ONCE
from mmreuse.reassembly.similarity.gram_files import STACKED_GRAMS, gram_facts, write_grams
from mmreuse.reassembly.similarity.similarities import compute_similarity, find_similarity
from mmreuse.reassembly.similarity.similarity_matrix import save_similarity
from mmreuse.reassembly.zoo.nodes import inout_shapes, node_macs
from mmreuse.reassembly.zoo.zoo import ZooEntry, build_member, member_hash
from mmreuse.registry import RUNNERS
from mmreuse.statistics.evaluate import accuracy
from mmreuse.statistics.grams import MIN_SAMPLES, collect_grams
from mmreuse.utils.configs.components import parameters_of
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.files.cache import StageCache
from mmreuse.utils.files.io import file_hash, write_json


@RUNNERS.register_module()
class FeatureExtractionRunner(ZooStage):
    """Run every member of the zoo over one list of samples and keep the Grams of its nodes.

    Runs that are started with the same ``cache_dir`` divide the zoo: each takes the next network that none is at, and
    more may join. A network of a run that dies is free again.

    Config: ``data`` (``dataset``, the transforms ``load`` that give an image, their
    ``color_order``), ``features`` (``num_samples``, ``minibatch`` of the Grams, ``batch_size``,
    ``num_workers``) and ``cache_dir``, where Grams are kept by content.

    Writes ``features/<key>.safetensors``.
    """
    stage = 'features'
    settings = ('zoo', 'data', 'features')
    #: Others that began with it copy the same files.
    patience = 600

    @cached_property
    def settled(self) -> dict[str, Any]:
        """Return the options, defaults filled in."""
        options = self.options('features', dict(num_samples=2048, minibatch=256, batch_size=64, num_workers=0))
        self.require_counts('features', options, num_samples=MIN_SAMPLES, minibatch=MIN_SAMPLES, batch_size=1,
                            num_workers=0)
        return options

    def inputs(self) -> dict[str, str]:
        return {**self.weights(), 'data': self.data_hash('data', self.settled['num_samples'])}

    def share_out(self) -> None:
        options = self.settled
        # All minibatches of one network, once in parts and once in a stack; its weights are on the device beside that.
        places = max(map(len, self.nodes.values())) + 1
        self.require_memory(2 * 4 * places * self.num_samples('data', options['num_samples']) * options['minibatch'],
                            'Take smaller features.minibatch or features.num_samples.')
        waiting = list(self.zoo.values())
        while waiting:
            busy = [entry for entry in waiting if not self._extract(entry, wait=False)]
            if len(busy) == len(waiting):
                self.logger.info(f'features: waits for {busy[0].key}, at which another run is')
                self._extract(busy.pop(0), wait=True)
            waiting = busy

    def execute(self) -> dict[str, Any]:
        metrics: dict[str, Any] = {'features/networks': len(self.zoo)}
        for entry in self.zoo.values():
            found = self._found.get(entry.key) or self._extract(entry, wait=True)
            if is_main_process():
                with atomic_path(self.folder / f'{entry.key}.safetensors') as target:
                    shutil.copyfile(found / 'grams.safetensors', target)
            metrics['features/samples'] = self.num_samples('data', self.settled['num_samples'])
            metrics[f'features/{entry.key}/nodes'] = len(self.nodes[entry.key])
        return metrics

    @cached_property
    def _found(self) -> dict[str, Path]:
        """Where the Grams of members lie that this run made or found."""
        return {}

    def _extract(self, entry: ZooEntry, wait: bool) -> Path | None:
        """Grams of one member, from the cache where they are known; None if another run makes them."""
        options, nodes = self.settled, self.nodes[entry.key]
        view = self.sample_view(options['num_samples'], entry.preprocess)
        weights_hash, data_hash = member_hash(entry), self.data_hash('data', len(view))
        key = dict(net=entry.key, weights=weights_hash, data=data_hash, preprocess=asdict(entry.preprocess),
                   minibatch=options['minibatch'], nodes=[node.name for node in nodes])

        def make(folder: Path) -> None:
            self.logger.info(f'features: {entry.key}, of {len(self.zoo)}')
            model = build_member(entry)
            loader = DataLoader(view, options['batch_size'], num_workers=options['num_workers'])
            grams = collect_grams(
                model.to(self.device), loader, [node.name for node in nodes],
                [nodes[0].in_layout, *(node.out_layout for node in nodes)], options['minibatch'])
            if is_main_process():
                write_grams(folder / 'grams.safetensors', grams, key=entry.key, nodes=nodes, weights_hash=weights_hash,
                            data_hash=data_hash)

        found = StageCache(self.cfg.get('cache_dir', 'work_dirs/cache')).get('grams', key, make, wait=wait)
        if found is not None:
            self._found[entry.key] = found
        return found


@RUNNERS.register_module()
class ZooAccuracyRunner(ZooStage):
    """Top-1 accuracy of every member of the zoo as it is: what a reassembled network has to be compared with.

    The members must be classifiers of the data's classes. Config: ``test_data``, like ``data``.
    """
    stage = 'zoo_accuracy'
    settings = ('zoo', 'test_data')

    def inputs(self) -> dict[str, str]:
        return {**self.weights(), 'test_data': self.data_hash('test_data', None)}

    def execute(self) -> dict[str, Any]:
        metrics = {}
        for entry in self.zoo.values():
            loader = DataLoader(self.sample_view(None, entry.preprocess, 'test_data'), 256)
            metrics[f'zoo_accuracy/{entry.key}'] = 100 * accuracy(build_member(entry).to(self.device), loader)
            self.logger.info(f'zoo_accuracy: {entry.key}: {metrics[f"zoo_accuracy/{entry.key}"]:.2f} %')
        return metrics


@RUNNERS.register_module()
class NodeShapeRunner(ZooStage):
    """Write the shapes of all nodes, as the published ``MODEL_INOUT_SHAPE.json`` holds them; no weights needed.

    Writes ``shapes/MODEL_INOUT_SHAPE.json``.
    """
    stage = 'shapes'
    settings = ('zoo',)

    def execute(self) -> dict[str, Any]:
        if is_main_process():
            write_json(self.folder / 'MODEL_INOUT_SHAPE.json', inout_shapes(self.zoo.values()))
        return {f'shapes/{key}/nodes': len(nodes) for key, nodes in self.nodes.items()}


@RUNNERS.register_module()
class SimilarityRunner(ZooStage):
    """Compare all places of all networks of the zoo.

    Config: ``similarity``, a registered similarity (``dict(type='cka')``).

    Writes ``similarity/similarity.safetensors``.
    """
    stage = 'similarity'
    settings = ('zoo', 'similarity')

    @property
    def gram_files(self) -> list[Path]:
        return [self.root / 'features' / f'{key}.safetensors' for key in self.zoo]

    def check(self) -> None:
        super().check()
        find_similarity(self.cfg.similarity)

    def inputs(self) -> dict[str, str]:
        for path in self.gram_files:
            facts = gram_facts(path)
            self.refuse_other_weights(path, {facts['key']: facts['weights_hash']})
        return {path.name: file_hash(path) for path in self.gram_files}

    def execute(self) -> dict[str, Any]:
        # Stacked Grams of one minibatch; the result, and once more while it is written.
        places, batch = self.places(), max(gram_facts(self.gram_files[0])['sizes'])
        stacked = min(STACKED_GRAMS, 16 * places * batch**2)
        columns = find_similarity(self.cfg.similarity).options.get('sketch') or places
        self.require_memory(stacked + 2 * 4 * places * columns, 'Take fewer nets, or fewer nodes of each, or '
                            'similarity.sketch.')
        similarity = compute_similarity(self.gram_files, self.cfg.similarity, device=self.device)
        if is_main_process():
            save_similarity(self.folder / 'similarity.safetensors', similarity)
        return {'similarity/places': len(similarity.values), 'similarity/mean': similarity.mean()}


@RUNNERS.register_module()
class PartitionRunner(ZooStage):
    """Cut every network into K blocks and put them into K equivalence sets.

    Config: ``partition``, the keywords of :func:`mmreuse.reassembly.partition.partition.partition`;
    ``similarity_file`` instead of what the similarity stage wrote.

    Writes ``partition/partition.json``.
    """
    stage = 'partition'
    settings = ('zoo', 'partition')

    @cached_property
    def settled(self) -> dict[str, Any]:
        """Return the keywords of the partition."""
        given = {'seed': self.seed, **self.cfg.partition}
        self.refuse_unknown('partition', given, parameters_of(check_options)[0])
        if given.get('balance') == 'flops':
            given['flops'] = {key: node_macs(entry) for key, entry in self.zoo.items()}
        return given

    def check(self) -> None:
        super().check()
        check_options(self.nodes, **self.settled)

    def inputs(self) -> dict[str, str]:
        self.refuse_other_weights(self.similarity_file, self.similarity.weights_hashes)
        return {'similarity': self.artefact_hash(self.similarity_file)}

    def execute(self) -> dict[str, Any]:
        # The similarity; once more in the order of the networks or averaged over both directions; pairs of blocks.
        self.require_memory(2 * 4 * self.places() * self.similarity.values.shape[1] + 4 * 8 * PAIRS_AT_ONCE,
                            'Take fewer nets, or fewer nodes of each.')
        result = partition(self.similarity, self.nodes, **self.settled)
        if is_main_process():
            save_partition(self.folder / 'partition.json', result)
        for net, blocks in result.blocks.items():
            named = (f'{result.node_names[net][b.first]}..{result.node_names[net][b.last]} [{b.set}]' for b in blocks)
            self.logger.info(f'partition: {net}: {" | ".join(named)}')
        return {'partition/objective': result.objective, 'partition/upper_bound': result.upper_bound,
                'partition/blocks': sum(map(len, result.blocks.values()))}


@RUNNERS.register_module()
class DeRyRunner:
    """All four stages in order; those that are up to date are skipped.

    Writes the stages' metrics together as ``metrics.json``, and ``report.html``.
    """
    stages = (FeatureExtractionRunner, SimilarityRunner, PartitionRunner, ReassemblyRunner)

    def __init__(self, cfg: Config) -> None:
        # All are built and checked first, so that what is wrong in a late section shows before time is spent.
        self.runners = [stage(cfg) for stage in self.stages]
        for runner in self.runners:
            runner.check()

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'DeRyRunner':
        return cls(cfg)

    def run(self) -> dict[str, Any]:
        metrics: dict[str, Any] = {}
        for runner in self.runners:
            metrics |= runner.run()
        if is_main_process():
            write_json(self.runners[0].root / 'metrics.json', metrics)
            report_reassembly(self.runners[0].root, self.runners[0].cfg)
        return metrics
