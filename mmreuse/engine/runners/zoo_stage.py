"""Base of the stages of deep model reassembly: the zoo, its data, results of earlier stages, and their checks."""
import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.dataset import Compose

from mmreuse.datasets.samples import SampleView, pick_samples, samples_hash
from mmreuse.engine.runners.stage import StageRunner
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.graph import Size
from mmreuse.reassembly.partition.files import load_partition
from mmreuse.reassembly.partition.published import import_published_partition
from mmreuse.reassembly.similarity.published import import_published
from mmreuse.reassembly.similarity.similarity_matrix import SimilarityMatrix, load_similarity
from mmreuse.reassembly.zoo.nodes import member_nodes
from mmreuse.reassembly.zoo.structures import Partition
from mmreuse.reassembly.zoo.zoo import Preprocess, ZooEntry, member_hash, parse_zoo
from mmreuse.registry import DATASETS, TRANSFORMS
from mmreuse.utils.configs.components import parameters_of
from mmreuse.utils.cost.memory import require_memory
from mmreuse.utils.files.io import file_hash
from mmreuse.utils.names import refuse_unknown


class ZooStage(StageRunner):
    """A stage that knows the zoo of the config, its nodes, and what earlier stages left in ``work_dir``."""

    @cached_property
    def zoo(self) -> dict[str, ZooEntry]:
        return parse_zoo(self.cfg.zoo)

    @cached_property
    def nodes(self) -> dict[str, tuple]:
        return {key: member_nodes(entry) for key, entry in self.zoo.items()}

    @property
    def node_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the nodes of each network."""
        return {key: tuple(node.name for node in nodes) for key, nodes in self.nodes.items()}

    def check(self) -> None:
        """Also: the zoo, the options and the data are what they should be."""
        super().check()
        _ = self.zoo, self.settled  # each raises what is wrong with it
        for section in ('data', 'test_data'):
            if section in self.settings:
                self.data_options(section)

    @cached_property
    def settled(self) -> dict[str, Any]:
        """The stage's own options, defaults filled in."""
        return {}

    def options(self, key: str, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return the config's section ``key`` over the defaults in ``known``.

        Raises:
            ConfigError: The section holds something else.
        """
        given = self.cfg.get(key) or {}
        self.refuse_unknown(key, given, known)
        return {**known, **given}

    def section(self, name: str, make: Callable[..., Any], values: Any) -> Any:
        """``make(**values)``, with an error that names the section and what it takes.

        Raises:
            ConfigError: ``make`` takes no such keyword.
        """
        self.refuse_unknown(name, values, parameters_of(make)[0])
        return make(**values)

    def refuse_unknown(self, name: str, given: Any, known: Iterable[str]) -> None:
        """Refuse options that there are not, and what is no dict of options.

        Raises:
            ConfigError: Names the first and the nearest.
        """
        if not isinstance(given, Mapping):
            raise ConfigError(f'{self.file}: {name} = {given!r} must be a dict of {", ".join(known)}.')
        refuse_unknown(f'{self.file}: {name}', given, tuple(known))

    def require_counts(self, section: str, options: Mapping[str, Any], **least: int) -> None:
        """Refuse options that are no whole numbers, or too small to do anything.

        Raises:
            ConfigError: Names the first.
        """
        for name, minimum in least.items():
            value = options[name]
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise ConfigError(f'{self.file}: {section}.{name} = {value!r} must be a whole '
                                  f'number of at least {minimum}.')

    def image_size(self, name: str, size: Any) -> Size:
        """Return height and width, given as such or as one side.

        Raises:
            ConfigError: It is neither.
        """
        sides = [size, size] if isinstance(size, int) else list(size) if isinstance(size, list | tuple) else []
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise ConfigError(f'{self.file}: {name} = {size!r} must be height and width in pixels, '
                              'such as (224, 224).')
        return tuple(sides)

    @property
    def similarity_file(self) -> Path:
        """Return the config's ``similarity_file``, or what the similarity stage wrote."""
        return Path(self.cfg.get('similarity_file') or self.root / 'similarity' / 'similarity.safetensors')

    @property
    def partition_file(self) -> Path:
        """Return the config's ``partition_file``, or what the partition stage wrote."""
        return Path(self.cfg.get('partition_file') or self.root / 'partition' / 'partition.json')

    @cached_property
    def similarity(self) -> SimilarityMatrix:
        """Return the content of :attr:`similarity_file`; of a folder, that of the published ``.pkl`` files in it."""
        if self.similarity_file.is_dir():
            return import_published(self.similarity_file, self.node_names)
        return load_similarity(self.similarity_file)

    @cached_property
    def partition(self) -> Partition:
        """Return the content of :attr:`partition_file`, which may be a published ``.pkl``."""
        if self.partition_file.suffix == '.pkl':
            return import_published_partition(self.partition_file, self.node_names)
        return load_partition(self.partition_file)

    def artefact_hash(self, path: Path) -> str:
        """Hash of a file, or of all pickles in a folder."""
        if not path.is_dir():
            return file_hash(path)
        digest = hashlib.sha256()
        for file in sorted(path.glob('*.pkl')):
            digest.update(f'{file.name} {file_hash(file)}\n'.encode())
        return f'sha256:{digest.hexdigest()}'

    def weights(self) -> dict[str, str]:
        """Return hashes of all members with their weights, by name; weights that are missing are fetched."""
        return {f'weights of {key}': member_hash(entry) for key, entry in self.zoo.items()}

    def refuse_other_weights(self, path: Path, made_from: Mapping[str, str]) -> None:
        """Make sure that an artefact was made from the zoo's weights as they are now.

        Published artefacts do not say what they were made from, and weights that are not on this machine cannot be
        compared; both are taken as they are.

        Raises:
            ArtefactError: A member has other weights now; names it.
        """
        for key, entry in self.zoo.items():
            present = member_hash(entry, fetch=False) if key in made_from else None
            if present is not None and made_from[key] != present:
                raise ArtefactError(
                    f"{path}: was made from other weights of '{key}' ({made_from[key]}) than the zoo has now "
                    f'({present}, {entry.weights}). Run the stages from the features on again, or restore the weights.')

    def places(self) -> int:
        """Return the rows of the zoo's similarity: the input of each net's first node and the output of every node."""
        return sum(len(nodes) + 1 for nodes in self.nodes.values())

    def require_memory(self, needed: int, remedy: str) -> None:
        """Log what the stage needs, and refuse where there is less.

        Raises:
            ConfigError: More is needed than available.
        """
        require_memory(needed, f'{self.stage} of {len(self.zoo)} nets', remedy, self.logger)

    def data_options(self, section: str) -> dict[str, Any]:
        """Return the section of a config that names data.

        Raises:
            ConfigError: It holds something else, or lacks the data set.
        """
        data = self.options(section, dict(dataset=None, load=[dict(type='LoadImageFromFile')], color_order='bgr'))
        if data['color_order'] not in ('bgr', 'rgb'):
            raise ConfigError(f"{section}.color_order = '{data['color_order']}' must be 'bgr' or 'rgb'")
        if not isinstance(data['dataset'], Mapping) or 'type' not in data['dataset']:
            raise ConfigError(f"{self.file}: {section}.dataset = {data['dataset']!r} must be a "
                              "dict with the 'type' of a data set.")
        return data

    def sample_view(self, num_samples: int | None, preprocess: Preprocess, section: str = 'data',
                    size: Size | None = None) -> SampleView:
        """Chosen samples (None: all) of the data that ``section`` of the config names, as a network sees them.

        With ``size``, height and width of the crop; the margin around it is as large as that of ``preprocess``,
        relative to the crop.
        """
        data = self.data_options(section)
        height, width = size or (preprocess.crop, preprocess.crop)
        edge = round(preprocess.resize * max(height, width) / preprocess.crop)
        fit = [dict(type='mmpretrain.ResizeEdge', scale=edge, edge='short', interpolation=preprocess.interpolation),
               dict(type='mmpretrain.CenterCrop', crop_size=(width, height))]
        transform = Compose([TRANSFORMS.build(step) for step in [*data['load'], *fit]])
        dataset = self._dataset(section, data['dataset'])
        indices = pick_samples(dataset, num_samples or len(dataset), self.seed)
        reverse = (data['color_order'] == 'rgb') != preprocess.to_rgb
        return SampleView(dataset, indices, transform, preprocess.mean, preprocess.std, reverse)

    def num_samples(self, section: str, wanted: int | None) -> int:
        """Return the number of wanted samples (None: all) that there are."""
        count = len(self._dataset(section, self.data_options(section)['dataset']))
        return count if wanted is None else min(wanted, count)

    def data_hash(self, section: str, num_samples: int | None) -> str:
        """Hash of the images and labels that :meth:`sample_view` chooses."""
        if (section, num_samples) not in self._data_hashes:
            dataset = self._dataset(section, self.data_options(section)['dataset'])
            indices = pick_samples(dataset, num_samples or len(dataset), self.seed)
            labels = [int(dataset.get_data_info(index)['gt_label']) for index in indices]
            text = f'{samples_hash(dataset, indices)} {labels}'
            self._data_hashes[section, num_samples] = f'sha256:{hashlib.sha256(text.encode()).hexdigest()}'
        return self._data_hashes[section, num_samples]

    @cached_property
    def _data_hashes(self) -> dict[tuple[str, int | None], str]:
        return {}

    @cached_property
    def _built(self) -> dict[str, Any]:
        return {}

    def _dataset(self, section: str, cfg: Mapping[str, Any]) -> Any:
        """Return the data set of a section, built once: members of the zoo differ in the transform only."""
        if section not in self._built:
            self._built[section] = DATASETS.build({**cfg, 'pipeline': []})
        return self._built[section]
