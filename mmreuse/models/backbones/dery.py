"""The backbone that deep model reassembly makes: a stem, blocks of other networks, stitching layers between them."""
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from mmengine.model import initialize
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmreuse.errors import ConfigError
from mmreuse.graph import Layout, Size
from mmreuse.networks import record_edit, record_of
from mmreuse.networks.record import set_record, structure_of
from mmreuse.reassembly.assembly.adapters import StitchingLayer, build_adapter, feature_kind, hand_over, to_layout
from mmreuse.reassembly.assembly.stem import conv_stem
from mmreuse.reassembly.partition.block_list import BlockSpec, parse_block_list
from mmreuse.reassembly.partition.blocks import ZooBlock, extract_block
from mmreuse.reassembly.zoo.structures import Adapter
from mmreuse.reassembly.zoo.zoo import ZooEntry, parse_zoo
from mmreuse.registry import MODELS
from mmreuse.utils.files.io import load_checkpoint
from mmreuse.utils.files.state_fit import load_strictly, weights_of
from mmreuse.utils.names import refuse_other

logger = logging.getLogger(__name__)


@MODELS.register_module()
class DeRy(BaseBackbone):
    """Blocks of pretrained networks in sequence (Yang et al., *Deep Model Reassembly*, NeurIPS 2022).

    The stem is trained from scratch. Nothing is resized: every block runs at the resolution
    that arrives. Parameters are named ``stem``, ``base_adapter``, ``adapters.{i}`` and
    ``blocks.{i}``, which is what ``paramwise_cfg`` can select by.

    Args:
        block_list: The blocks in order: ``dict(model=KEY_OR_ZOO_ENTRY, first=NODE, last=NODE)``, or
            the published forms (see :func:`mmreuse.reassembly.partition.block_list.parse_block_list`).
        adapter_list: One stitching layer between each block and the next: fields of
            :class:`mmreuse.reassembly.zoo.structures.Adapter`, or the published
            ``input_channel``/``output_channel`` form. May be None for a single block.
        base_adapter: Stitching layer between stem and first block, which lets tokens come first.
        zoo: Entries that ``block_list`` names by key.
        pretrained: Blocks carry their entries' weights. False makes them random, on request only.
        block_fixed: Blocks are not trained.
        all_fixed: Neither stem, adapters nor blocks are trained.
        frozen_bn: What batch norms of fixed parts do in train mode: 'adapt' uses and updates
            batch statistics, as in the paper; 'eval' keeps the statistics they have.
        base_channels: Width of the stem.
        in_channels: Channels of the image.
        stem: 'imagenet' divides the image's sides by 4, 'cifar' (one 3x3 convolution) keeps them.
        out_indices: Blocks whose output is returned, negative ones from the end; default the last.
        init_cfg: For stem and adapters; of type 'Pretrained' for the whole backbone.

    Raises:
        ConfigError: Blocks, adapters and channels do not fit together, or options do not exist.
        ArtefactError: A block's weights are missing or wrong.
    """

    def __init__(
        self,
        block_list: Sequence[Mapping[str, Any] | Sequence[str]],
        adapter_list: Sequence[Mapping[str, Any] | Adapter] | None = None,
        base_adapter: Mapping[str, Any] | Adapter | None = None,
        zoo: Sequence[Mapping[str, Any]] | Mapping[str, ZooEntry] = (),
        pretrained: bool = True,
        block_fixed: bool = True,
        all_fixed: bool = False,
        frozen_bn: Literal['adapt', 'eval'] = 'adapt',
        base_channels: int = 64,
        in_channels: int = 3,
        stem: Literal['imagenet', 'cifar'] = 'imagenet',
        out_indices: Sequence[int] = (-1,),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        refuse_other('DeRy: frozen_bn', frozen_bn, ('adapt', 'eval'))
        entries = zoo if isinstance(zoo, Mapping) else parse_zoo(zoo) if zoo else {}
        self.specs = parse_block_list(block_list, entries)
        self.out_indices = _absolute(out_indices, len(self.specs))
        self.pretrained = pretrained
        self.block_fixed = block_fixed or all_fixed
        self.all_fixed = all_fixed
        self.frozen_bn = frozen_bn
        self.stem = conv_stem(in_channels, base_channels, stem)
        self.base_adapter = build_adapter(base_adapter) if base_adapter is not None else None
        self.adapters = nn.ModuleList(map(build_adapter, adapter_list or ()))
        self.blocks = nn.ModuleList(self._extract(spec) for spec in self.specs)
        self._check_joints(base_channels)
        self._freeze()
        self._block_versions = self._versions()

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Return the channels of the maps returned."""
        return tuple(self.blocks[index].last.out_channels for index in self.out_indices)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps at ``out_indices``.

        Args:
            x: Images (N, in_channels, H, W), of any size that the blocks accept.

        Returns:
            tuple[Tensor, ...]: Maps (N, C, H', W'); tokens are returned as the map they stand for.

        Raises:
            DataError: Tokens do not form a map where one is needed, or a map is smaller than a stride.
        """
        outputs = []
        state = self.run_stem(x)
        for index in range(max(self.out_indices) + 1):
            state = self.run_block(index, *state)
            if index in self.out_indices:
                outputs.append(to_layout(*state, 'nchw'))
        return tuple(outputs)

    def run_stem(self, x: Tensor) -> tuple[Tensor, Size, Layout]:
        """Map images (N, in_channels, H, W) to the stem's maps, their size and layout."""
        x = self.stem(x)
        return x, tuple(x.shape[-2:]), 'nchw'

    def run_block(self, index: int, x: Tensor, size: Size, layout: Layout) -> tuple[Tensor, Size, Layout]:
        """Run the adapter before a block, if there is one, and the block.

        Args:
            index: Which block.
            x: What :meth:`run_stem` or the block before returned.
            size: Likewise.
            layout: Likewise.

        Returns:
            tuple: Features, their map's size, their layout.
        """
        block = self.blocks[index]
        return *block(*hand_over(x, size, layout, block.in_layout, self.adapter_before(index))), block.out_layout

    def adapter_before(self, index: int) -> StitchingLayer | None:
        """Return the stitching layer in front of a block."""
        return self.adapters[index - 1] if index else self.base_adapter

    def train(self, mode: bool = True) -> 'DeRy':
        """Set the mode; batch norms of fixed parts stay in eval mode where ``frozen_bn='eval'``."""
        super().train(mode)
        if self.frozen_bn == 'eval':
            for part in self._fixed_parts():
                for module in part.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self

    def init_weights(self) -> None:
        """Apply ``init_cfg`` to stem and adapters; the blocks keep the weights they came with.

        An ``init_cfg`` of the surrounding classifier reaches into the blocks; that is undone.
        With ``init_cfg`` of type 'Pretrained' (keys ``checkpoint`` and optionally ``prefix``)
        the whole backbone is loaded instead.

        Raises:
            ArtefactError: The checkpoint is missing, unsafe or not of this backbone.
        """
        configs = [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg or []
        if any(config['type'] == 'Pretrained' for config in configs):
            self._load(**{name: value for name, value in configs[0].items() if name != 'type'})
        else:
            for part in (self.stem, self.base_adapter, self.adapters):
                if part is not None and configs:
                    initialize(part, configs)
            if self.pretrained and self._versions() != self._block_versions:
                logger.info('Blocks were re-initialised from outside; their weights are loaded again.')
                for spec, block in zip(self.specs, self.blocks, strict=True):
                    block.load_state_dict(self._extract(spec).state_dict())
        self._is_init = True

    def _load(self, checkpoint: str, prefix: str = '') -> None:
        state = weights_of(load_checkpoint(checkpoint), checkpoint)
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        load_strictly(self, state, checkpoint, remedy=(
            f"It is none of this backbone under the prefix {prefix!r}; a classifier's needs prefix='backbone.'."))

    def _extract(self, spec: BlockSpec) -> ZooBlock:
        # Under torch.device('meta') only shapes are wanted.
        empty = torch.empty(0).is_meta
        return extract_block(spec.entry, spec.first, spec.last, pretrained=self.pretrained, empty=empty)

    def _versions(self) -> dict[str, int]:
        """Counts the changes in place of each block parameter."""
        return {name: parameter._version for name, parameter in self.blocks.named_parameters()}

    def _fixed_parts(self) -> list[nn.Module]:
        parts = [self.stem, self.adapters, *([self.base_adapter] if self.base_adapter else [])]
        return (parts if self.all_fixed else []) + ([self.blocks] if self.block_fixed else [])

    def _freeze(self) -> None:
        self.blocks.requires_grad_(True)
        for part in self._fixed_parts():
            part.requires_grad_(False)

    def _check_joints(self, base_channels: int) -> None:
        """Check that every adapter, or direct joint, fits what comes before and behind."""
        if len(self.adapters) != len(self.blocks) - 1:
            raise ConfigError(f'DeRy: {len(self.blocks)} blocks need {len(self.blocks) - 1} adapters in adapter_list, '
                              f'not {len(self.adapters)}.')
        channels, kind = base_channels, 'cnn'
        for index, block in enumerate(self.blocks):
            name = f'{self.specs[index].entry.key} {block.first.name}'
            adapter = self.adapter_before(index)
            wanted = (f'{kind}2{feature_kind(block.in_layout)}', channels, block.first.in_channels)
            if adapter is not None:
                found = (adapter.adapter.mode, adapter.adapter.in_channels, adapter.adapter.out_channels)
                where = f'adapter_list[{index - 1}]' if index else 'base_adapter'
                if found != wanted:
                    raise ConfigError(f'DeRy: {where} is {found}, but block {index} ({name}) needs {wanted} (mode, '
                                      f'channels in, channels out).')
            elif channels != block.first.in_channels:
                raise ConfigError(f'DeRy: block 0 ({name}) takes {block.first.in_channels} channels, the stem gives '
                                  f'{channels}. Set base_channels={block.first.in_channels} or give a base_adapter.')
            channels, kind = block.last.out_channels, feature_kind(block.out_layout)


def record_assembly(classifier: nn.Module, inputs: Tensor | None = None) -> nn.Module:
    """Note on a classifier with a :class:`DeRy` backbone what it was made of, and return it.

    From here on its blocks' weights are its own: those of the zoo are needed neither to initialise nor to rebuild it.

    Args:
        classifier: Built of a config.
        inputs: Images that it takes.
    """
    classifier.backbone.pretrained = False
    structure = structure_of(classifier)
    options = dict(structure['options'])
    options['backbone'] = _without_weights({**options['backbone'], 'pretrained': False})
    set_record(classifier, replace(record_of(classifier), structure={**structure, 'options': options}))
    blocks = list(dict.fromkeys(spec.entry.key for spec in classifier.backbone.specs))
    return record_edit(classifier, 'reassemble', [classifier], inputs=inputs, blocks=blocks)


def _without_weights(cfg: Any) -> Any:
    """Return a config whose entries of a zoo name no weights."""
    if isinstance(cfg, Mapping):
        return {key: _without_weights(value) for key, value in cfg.items() if key not in ('weights', 'weights_hash')}
    return [_without_weights(item) for item in cfg] if isinstance(cfg, list | tuple) else cfg


def _absolute(indices: Sequence[int], count: int) -> tuple[int, ...]:
    for index in indices:
        if not -count <= index < count:
            raise ConfigError(f'DeRy: out_indices={tuple(indices)}: there are {count} blocks, counted from 0.')
    if not indices:
        raise ConfigError('DeRy: out_indices is empty. Name at least one block, e.g. (-1,).')
    return tuple(sorted(index % count for index in indices))
