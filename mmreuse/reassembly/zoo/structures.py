"""Data that travel between the stages of deep model reassembly.

The terms are those of Yang et al., *Deep Model Reassembly* (NeurIPS 2022): a **node** is a
module of a pretrained network that consumes only its predecessor's output; a **block** is a
contiguous run of nodes; a **partition** cuts each network of the zoo into K blocks and puts
every block into one of K equivalence **sets**, each with an **anchor**; a **genotype** is
one assembled network: K blocks and the adapters that stitch them.
"""
from dataclasses import dataclass, field
from typing import Literal

from mmreuse.graph import Layout


@dataclass(frozen=True)
class Node:
    """One node of a zoo member, measured at the zoo's input size.

    Shapes are without the batch dimension, in the node's own layout.
    """
    name: str  # dotted module name in the network it comes from
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    in_layout: Layout
    out_layout: Layout
    params: int  # parameters of the module

    @property
    def in_channels(self) -> int:
        return self.in_shape[0] if self.in_layout == 'nchw' else self.in_shape[-1]

    @property
    def out_channels(self) -> int:
        return self.out_shape[0] if self.out_layout == 'nchw' else self.out_shape[-1]


@dataclass(frozen=True)
class Block:
    """Nodes ``first`` to ``last`` (both included) of zoo member ``model``."""
    model: str  # key of the zoo entry, which names constructor *and* weights
    first: int
    last: int
    stage: int  # position among the K blocks of its own network, from 0
    set: int  # equivalence set, from 0

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class Partition:
    """K blocks of every network, in K equivalence sets."""
    num_blocks: int  # K
    epsilon: float  # a block holds fewer than (1 + epsilon) / K of its network
    balance: Literal['nodes', 'params', 'flops']  # what "holds" counts
    similarity: str  # name of the similarity it was made from
    objective: float | None  # sum of S(block, anchor of its set); None where the file does not say
    blocks: dict[str, tuple[Block, ...]]  # by network, in stage order: contiguous, disjoint, exhaustive
    anchors: tuple[Block, ...]  # by set
    node_names: dict[str, tuple[str, ...]]  # by network: what the indices of its blocks refer to
    hashes: dict[str, str] = field(default_factory=dict)  # by network: of its weights; 'similarity': its content
    node_sizes: dict[str, tuple[float, ...]] = field(default_factory=dict)  # by network: what "holds" counts, by node
    block_input: Literal['true', 'first_node'] = 'true'  # what stands for a block's input in S
    bijective: bool = False  # whether the K blocks of a network are in K different sets
    legacy: bool = False  # made by the published procedure, which does not hold the size bound
    seed: int = 0
    traces: tuple[tuple[float, ...], ...] = ()  # by restart: the objective after each step
    upper_bound: float | None = None  # no partition within the size bound has a larger objective


@dataclass(frozen=True)
class Adapter:
    """A stitching layer: turns one block's output into the next one's input."""
    mode: Literal['cnn2cnn', 'cnn2vit', 'vit2cnn', 'vit2vit']
    in_channels: int
    out_channels: int
    num_conv: int = 1
    num_fc: int = 0
    stride: int = 1
    linear: bool = False  # one layer with a bias, neither norm nor activation


@dataclass(frozen=True)
class Genotype:
    """An assembled network, complete: building it twice gives the same network."""
    blocks: tuple[Block, ...]
    adapters: tuple[Adapter, ...]  # len(blocks) - 1
    base_channels: int  # width of the convolutional stem
    base_adapter: Adapter | None = None  # between the stem and a transformer that comes first
    stem: Literal['imagenet', 'cifar'] = 'imagenet'


@dataclass(frozen=True)
class Candidate:
    """A genotype with what was counted and scored of it."""
    genotype: Genotype
    params: int  # whole classifier
    flops: int  # multiply-accumulates at the stated input size, whole classifier
    scores: dict[str, float] = field(default_factory=dict)  # by proxy
    latency: float | None = None  # seconds per batch of one
