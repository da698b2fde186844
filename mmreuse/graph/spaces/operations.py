"""Operations as the tracer meets them, the table of their rules, and what is noted of them."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mmreuse.graph.values import tensors_in

if TYPE_CHECKING:
    from mmreuse.graph.spaces.tracer import Tracer


@dataclass(frozen=True)
class Pin:
    """Something that was kept from moving, and the operation that did it."""
    operation: str
    module: str
    reason: str
    line: str = ''  # 'file:line' of the network's code, '' where there is none

    def __str__(self) -> str:
        where = f"in module '{self.module}'" if self.module else 'in the forward of the model itself'
        return f"{self.operation} {where}{f' ({self.line})' if self.line else ''}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Use:
    """The frames between which a parameter stands in one operation."""
    ids: Tensor  # number of axes of the parameter, narrowed
    reads: int = 0  # frame of what it is multiplied by; 0: none
    writes: int = 0  # frame of what it gives
    operation: str = ''


@dataclass(frozen=True, eq=False)
class Label:
    """Atoms at the elements of a parameter, in one use of it."""
    key: str
    shape: tuple[int, ...]
    ids: Tensor  # number of axes of the parameter, narrowed
    role: str  # 'write', 'read' or 'accompany'
    call: int  # number of the operation
    visited: Tensor | None = None  # (shape) of bool: elements that were read; None: all
    region: tuple[int, int, int] | None = None  # axis of which it says only a part, first and last place of that
    uses: tuple[Use, ...] = ()


@dataclass(frozen=True, eq=False)
class Seen:
    """A tensor that is seen while the network runs."""
    module: str
    side: str  # 'output' or 'input' of a module or operation; 'read': what an operation with a parameter reads
    shape: tuple[int, ...]
    ids: Tensor
    operation: str = ''  # that runs in the module; '' for the module itself
    number: int = 0  # of the operation among those of its name, in one call of the module


@dataclass(eq=False)
class Call:
    """One intercepted operation."""
    name: str
    function: Callable
    args: tuple
    kwargs: dict
    out: Any = None
    prior: Tensor | None = None  # what a constant was before the operation wrote into it
    frame: int = 0  # of the results
    reads: int = 0  # frame that weights read
    allowed: int | None = None  # what may be done to the frames that it joins; None: its rule says so
    ports: dict[int, tuple[int, int]] = field(default_factory=dict)  # by id of a parameter: frames that it is between

    @property
    def writes(self) -> bool:
        """Return whether the first argument is written into."""
        name = self.function.__name__
        return name == '__setitem__' or name.startswith('__i') or name.endswith('_') and not name.endswith('__')

    def value(self, tensor: Tensor) -> Tensor:
        """Return the values of an argument as they were when the operation began."""
        return self.prior if self.prior is not None and tensor is self.args[0] else tensor

    @property
    def outs(self) -> list[Tensor]:
        """Return the tensors that get new values."""
        return [self.args[0]] if self.name == 'setitem' else tensors_in(self.out)

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument by position or by name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)


Rule = Callable[['Tracer', Call], None]
RULES: dict[str, Rule] = {}
#: Operations that do the same to every channel wherever it stands, or nothing: what they are applied to is not noted.
UNTREATED: set[str] = set()
#: Operations that are run as several simpler ones: name -> replacement with the same arguments.
DECOMPOSITIONS: dict[str, Callable] = {}
#: Operations that read no value (shapes, types, ...).
SILENT = frozenset("""size dim shape numel nelement stride device dtype ndim ndimension is_contiguous is_floating_point
    is_complex is_cuda is_cpu is_mps is_xpu is_nested is_sparse is_quantized is_meta is_mkldnn layout get_device
    element_size data_ptr storage_offset requires_grad grad_fn grad is_leaf len repr str format hash bool item tolist
    int index numpy dense_dim is_nonzero is_same_size result_type set_grad_enabled output_nr is_xla
    is_inference is_tensor iscomplexobj backward_hooks version names has_names register_hook is_neg is_conj
    is_pinned is_shared untyped_storage storage name is_storage allclose equal reversed is_autocast_enabled itemsize
    nbytes is_signed can_cast promote_types broadcast_shapes is_vulkan is_ipu is_ort is_hpu is_maia is_mtia
    is_sparse_csr retains_grad volatile array""".split())

#: Operations by which control flow learns of a value.
READS = frozenset('bool item int float index is_nonzero equal allclose'.split())
#: Operations with as many results as there are values of a kind.
CHOOSING = frozenset('nonzero argwhere masked_select unique unique_consecutive bincount'.split())
#: Operations after which other code computes with the values.
ESCAPES = frozenset(('numpy', 'array', 'tolist'))


def rule(*names: str, treats: bool = True) -> Callable[[Rule], Rule]:
    """Register the rule of some operations.

    Args:
        names: Of the operations, without underscores.
        treats: Whether to channels that they are applied to something is done that others do not undergo. The rules
            of others say themselves what they treat.
    """
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        UNTREATED.update(() if treats else names)
        return function
    return register


def plain_name(function: Callable) -> str:
    """Name of an operation without underscores: ``add_`` and ``__add__`` are ``add``."""
    name = getattr(function, '__name__', str(function))
    if name in ('__get__', '__set__'):
        name = getattr(getattr(function, '__self__', None), '__name__', name)
    return name.strip('_')
