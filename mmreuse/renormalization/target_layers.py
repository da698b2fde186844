"""The layers to renormalize, found by running the network once."""
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmreuse.errors import ConfigError, SpaceError
from mmreuse.graph import Call, Recording, guess_layout, record
from mmreuse.utils.names import nearest

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)

#: Names of modules, or a regular expression that whole names fit.
Layers = str | Sequence[str]


@dataclass(frozen=True)
class Place:
    """An output whose channels are measured and corrected."""
    module: str
    dim: int  # of the channels in its output
    norm: str | None = None  # batch norm with running statistics that alone reads it
    sequence: str | None = None  # container behind whose child the correction is inserted; None: it is folded


class Flow:
    """Layers of a network in order of execution, and which layer reads which.

    Args:
        model: The network; it is left as it was.
        images: One or two of its inputs.

    Raises:
        TraceError: The network does not run on them, or cannot be recorded.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.model = model
        self.modules = dict(model.named_modules())
        self.recording: Recording = record(model, images)
        self.counts = Counter(call.name for call in self.recording.calls)
        #: Weighted layers by the node of their output.
        self.weighted = {call.output: call.name for call in self.recording.calls
                         if isinstance(self.modules[call.name], WEIGHTED) and call.output is not None}

    def layers(self) -> list[str]:
        """Return convolutions and linear layers."""
        return list(dict.fromkeys(self.weighted.values()))

    def inner_layers(self) -> list[str]:
        """Return convolutions and linear layers that another one comes after: all but classifiers."""
        read = set()
        for node in reversed(self.recording.graph.nodes):
            if node in self.weighted or node in read:
                read.update(node.all_input_nodes)
        return list(dict.fromkeys(name for node, name in self.weighted.items() if node in read))

    def depths(self, layers: Collection[str]) -> dict[str, int]:
        """Return, for each of ``layers``, how many lie on the longest way from the input to its output, itself too."""
        depth_of: dict[fx.Node, int] = {}
        depths = {}
        for node in self.recording.graph.nodes:
            depth_of[node] = max((depth_of[source] for source in node.all_input_nodes), default=0)
            name = self.weighted.get(node)
            if name in layers:
                depth_of[node] += 1
                depths[name] = max(depths.get(name, 0), depth_of[node])
        return depths

    def with_bias(self) -> list[str]:
        """Return the modules that have a bias, of whatever kind."""
        return [name for name in dict.fromkeys(call.name for call in self.recording.calls)
                if isinstance(getattr(self.modules[name], 'bias', None), nn.Parameter)]

    def norms(self) -> list[str]:
        """Return the norms that divide features by their deviation."""
        return [name for name in self.counts if isinstance(self.modules[name], NORMS)]

    def place(self, layer: str) -> Place:
        """Return the layer in which the output of a module that holds its own weights is corrected."""
        output = self._call(layer).output
        readers = list(output.users)
        alone = (self.counts[layer] == len(readers) == 1 and readers[0].op == 'call_module'
                 and self._keeps_statistics(readers[0].target))
        return Place(layer, self._dim(layer, output), norm=readers[0].target if alone else None)

    def block_place(self, block: str) -> Place:
        """Return where the output of any module is corrected: in the layer that gives it, or behind the module.

        Raises:
            SpaceError: No layer gives the output, and the module does not stand in an ``nn.Sequential``.
        """
        call = self._call(block)
        producer = call.output.target if call.output.op == 'call_module' else None
        if producer is not None and foldable(self.modules[producer]) and self.counts[producer] == 1:
            return self.place(producer)
        parent = block.rpartition('.')[0]
        runs = {self.recording.calls[index].name for index in call.parents}
        if parent not in runs or type(self.modules[parent]).forward is not nn.Sequential.forward:
            raise SpaceError(f"the output of '{block}' cannot be corrected: no convolution, linear layer or norm gives "
                             f"it, and '{parent}' ({type(self.modules[parent]).__name__}) is not an nn.Sequential "
                             'behind whose child a layer could be inserted. Name the layers inside instead.')
        return Place(block, self._dim(block, call.output), sequence=parent)

    def _dim(self, name: str, output: fx.Node) -> int:
        module = self.modules[name]
        if isinstance(module, nn.Linear):
            return -1
        if isinstance(module, (*WEIGHTED, _BatchNorm)):
            return 1
        return -1 if guess_layout(output, self.model) in ('nhwc', 'nlc') else 1

    def _call(self, name: str) -> Call:
        call = next((call for call in self.recording.calls if call.name == name), None)
        if call is None:
            raise SpaceError(f"'{name}' does not run as a module of {type(self.model).__name__}. "
                             f'{nearest(name, self.counts)}')
        if call.output is None:
            raise SpaceError(f"'{name}' does not return one tensor of features.")
        return call

    def _keeps_statistics(self, name: str) -> bool:
        module = self.modules[name]
        return isinstance(module, _BatchNorm) and module.running_mean is not None and self.counts[name] == 1


def foldable(module: nn.Module) -> bool:
    """Return whether an affine map of each output channel can go into the module's own weight and bias."""
    weight = module._parameters.get('weight')
    return isinstance(module, WEIGHTED) or (isinstance(module, NORMS) and weight is not None and weight.dim() == 1)


def find_places(flow: Flow, layers: Layers | None = None, blocks: Sequence[str] | None = None) -> list[Place]:
    """Return the outputs that are corrected.

    Args:
        flow: The network, run once.
        layers: Names of convolutions and linear layers; or a regular expression that picks, by their whole names, some
            of those that another one comes after; None for all of these, which leaves out classifiers.
        blocks: Names of any modules, in place of layers.

    Returns:
        list[Place]: In order of execution.

    Raises:
        SpaceError: No layer fits, or a name is not that of a layer that runs.
        ConfigError: Layers and blocks were both given.
    """
    if blocks is not None:
        if layers is not None:
            raise ConfigError(f'layers = {layers!r} and blocks = {list(blocks)!r}: correct either layers or blocks.')
        return list(dict.fromkeys(flow.block_place(name) for name in _in_order(blocks, flow.counts)))
    inner = flow.inner_layers()
    if not inner and (layers is None or isinstance(layers, str)):
        raise SpaceError(f'{type(flow.model).__name__} has no convolution or linear layer that another one comes after '
                         f'(there is {", ".join(flow.layers()) or "none at all"}). Name the layers to correct.')
    known = inner if layers is None or isinstance(layers, str) else flow.layers()
    return [flow.place(name) for name in choose(known, layers)]


def choose(known: Sequence[str], layers: Layers | None) -> list[str]:
    """Return names meant among known ones, in their order; None means all.

    Raises:
        SpaceError: None fits, or a name is not known.
    """
    if layers is None:
        return list(known)
    if not isinstance(layers, str):
        return _in_order(layers, known)
    found = [name for name in known if re.fullmatch(layers, name)]
    if not found:
        raise SpaceError(f"no layer fits '{layers}'. {nearest(layers, known)}")
    return found


def _in_order(names: Sequence[str], known: Collection[str]) -> list[str]:
    for name in names:
        if name not in known:
            raise SpaceError(f"'{name}' is none of the layers that run. {nearest(name, known)}")
    return [name for name in known if name in names]
