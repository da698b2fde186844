"""One concrete run of a network in which every operation says what it does to the atoms."""
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mmreuse.errors import TraceError
from mmreuse.graph.spaces.atoms import Atoms, hashed, narrow, varying
from mmreuse.graph.spaces.combine import Operand, combine
from mmreuse.graph.spaces.memory import SharedMemory
from mmreuse.graph.spaces.operations import (
    CHOOSING,
    DECOMPOSITIONS,
    ESCAPES,
    READS,
    RULES,
    SILENT,
    UNTREATED,
    Call,
    Label,
    Pin,
    Seen,
    Use,
    plain_name,
)
from mmreuse.graph.spaces.source_lines import calling_line
from mmreuse.graph.spaces.state import CONSTANT, Activation, Constant, Source, Weight, get_state, set_state
from mmreuse.graph.symmetry import flow
from mmreuse.graph.symmetry.frames import ANY, SCALE, Frames
from mmreuse.graph.values import tensors_in

#: What a hidden operation may be: another name for the same value.
ALIASES = (torch.ops.aten.detach.default, torch.ops.aten.alias.default)


class HiddenWatch(TorchDispatchMode):
    """Sees what runs below the traced operations: compiled and foreign code that works on traced values."""

    def __init__(self, tracer: 'Tracer') -> None:
        super().__init__()
        self.tracer = tracer
        self.watching = True
        self.found: TraceError | None = None  # kept: an interpreter of scripts turns it into something else

    def __torch_dispatch__(self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        states = [get_state(tensor) for tensor in tensors_in([args, kwargs])] if self.watching else []
        if any(isinstance(state, (Activation, Weight)) for state in states):
            if function in ALIASES:  # made by code that is no operation, such as torch.autograd.Variable
                out = function(*args, **(kwargs or {}))
                set_state(out, states[0])
                return out
            self.found = TraceError(
                f"Operation '{function}' in module '{self.tracer.place}' runs in compiled or scripted code, which "
                'cannot be followed: build the model without torch.jit.script and torch.compile.')
            raise self.found
        return function(*args, **(kwargs or {}))


@torch.no_grad()
def _vary(model: nn.Module) -> None:
    """Draw parameters that are constant at random: behind a gate that starts at zero all channels look alike."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.numel() and bool((parameter == parameter.flatten()[0]).all()):
            parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))


class Tracer(TorchFunctionMode):
    """Runs a network, a copy of which nothing else is wanted, and keeps atoms, labels of parameters, taps and pins."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network = type(model).__name__
        self.atoms = Atoms()
        self.frames = Frames()
        self.labels: list[Label] = []
        self.seen: list[Seen] = []
        self.pins: list[Pin] = []
        self.calls = 0
        self.stack: list[str] = []
        self.current: Call | None = None
        self.activated: dict[str, Tensor] = {}
        self.frame_of: dict[str, int] = {}  # frame of each activated parameter
        self.fixed: set[str] = set()  # parameters of which no axis may move
        self.decisions: list[tuple[int, Pin]] = []  # on computed values, by number among all branches on tensors
        self.branches = 0
        self.read: set[str] = set()  # parameters that some operation took
        self.chooses = False  # whether it depends on values how many rows there are somewhere
        self.random: list[Pin] = []  # operations that draw random numbers
        self.watch = HiddenWatch(self)
        self.memory = SharedMemory()
        _vary(model)
        self._hooks = []
        self._prepare(model)

    def _prepare(self, model: nn.Module) -> None:
        keys = set(model.state_dict(keep_vars=True))
        for module in model.modules():
            for tensor in tensors_in([value for name, value in vars(module).items()
                                      if not name.endswith(('_parameters', '_buffers', '_modules'))]):
                set_state(tensor, CONSTANT)
            for tensor in module._buffers.values():
                if tensor is not None:
                    set_state(tensor, CONSTANT)
        named = [*model.named_buffers(remove_duplicate=False), *model.named_parameters(remove_duplicate=False)]
        for key, tensor in reversed(named):
            if key in keys and tensor.is_floating_point():
                set_state(tensor, Weight((Source(key, tuple(tensor.shape)),)))
        for name, module in model.named_modules():
            self._hooks.append(module.register_forward_pre_hook(self._enter(name), with_kwargs=True))
            self._hooks.append(module.register_forward_hook(self._leave(name)))

    def _enter(self, name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            self.stack.append(name)
            if args and isinstance(args[0], Tensor):
                self._see(name, 'input', args[0])
        return hook

    def _leave(self, name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            self.stack.pop()
            if isinstance(output, Tensor):
                self._see(name, 'output', output)
        return hook

    def _see(self, name: str, side: str, tensor: Tensor, operation: str = '', number: int = 0) -> None:
        with torch._C.DisableTorchFunction():  # looking is no operation of the network
            state = get_state(tensor)
            if isinstance(state, Activation):
                self.seen.append(Seen(name, side, tuple(tensor.shape), narrow(state.ids), operation, number))

    def see_operation(self, module: str, operation: str, number: int, result: Tensor) -> None:
        """Remember the result of an operation; padding holds no features."""
        if operation != 'pad':
            self._see(module, 'output', result, operation, number)

    @property
    def place(self) -> str:
        """Dotted path of the module that runs."""
        return self.stack[-1] if self.stack else ''

    def close(self) -> None:
        """Take the hooks off the model again."""
        for hook in self._hooks:
            hook.remove()

    # -- interception ------------------------------------------------------------------

    def __torch_function__(self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        watching, self.watch.watching = self.watch.watching, False  # what an operation consists of is not looked at
        try:
            return self._intercept(function, args, kwargs or {})
        finally:
            self.watch.watching = watching

    def _intercept(self, function: Callable, args: tuple, kwargs: dict) -> Any:
        name = plain_name(function)
        if name in ESCAPES and isinstance(get_state(args[0]), Activation) and args[0].numel() > 1:
            raise TraceError(f"'{name}' in module '{self.place}' takes values out of PyTorch, where they cannot be "
                             'followed: compute with torch operations instead.')
        if name in SILENT:
            result = function(*args, **kwargs)
            if name in READS and not isinstance(result, Tensor):
                self._read(name, args)
            return result
        if name in DECOMPOSITIONS:
            with self:
                return DECOMPOSITIONS[name](*args, **kwargs)
        call = Call(name, function, args, kwargs)
        if any(is_functorch_wrapped_tensor(tensor) for tensor in tensors_in([args, kwargs])):
            return self._inside_transform(call)
        for tensor in tensors_in([args, kwargs]):
            if get_state(tensor) is None:
                set_state(tensor, CONSTANT)
        given = list(tensors_in([args, kwargs]))
        before = [get_state(tensor) for tensor in given]
        self.read.update(source.key for state in before if isinstance(state, Weight) for source in state.sources)
        masked = name == 'getitem' and any(tensor.dtype == torch.bool for tensor in given[1:])
        self.chooses |= masked or name in CHOOSING
        versions = [tensor._version for tensor in given]
        if args and call.writes and get_state(args[0]) is CONSTANT:
            call.prior = args[0].clone()
        generator = torch.get_rng_state()
        call.out = function(*args, **kwargs)
        if not torch.equal(generator, torch.get_rng_state()):
            self.random.append(Pin(name, self.place, 'draws random numbers', calling_line()))
        outs = call.outs
        if not outs:
            if name in READS:
                self._read(name, args)
            return call.out
        self.calls += 1
        self.memory.add(outs)
        if not any(isinstance(state, (Activation, Weight)) for state in before):
            for tensor in outs:
                set_state(tensor, CONSTANT)
            return call.out
        self.current = call
        if name not in UNTREATED:
            for state in before:
                if isinstance(state, Activation):
                    self.treat(narrow(state.ids))
        carriers = flow.begin(self, call)
        self._apply_rule(call)
        flow.end(self, call, carriers)
        for tensor, version in zip(given, versions, strict=True):
            if tensor._version != version:
                self.memory.written(tensor, self)
        return call.out

    def _inside_transform(self, call: Call) -> Any:
        """Run an operation on values that torch.vmap or torch.func wrapped; what they wrap is held."""
        call.out = call.function(*call.args, **call.kwargs)
        self.calls += 1
        self.current = call
        for tensor in tensors_in([call.args, call.kwargs]):
            while is_functorch_wrapped_tensor(tensor):
                tensor = get_unwrapped(tensor)
            self.hold_value(tensor, 'runs inside torch.vmap or torch.func')
        return call.out

    def _apply_rule(self, call: Call) -> None:
        """Apply the rule of an operation; where it fails, or leaves a result without ids, hold what enters."""
        labels = len(self.labels)
        try:
            (RULES.get(call.name) or unknown)(self, call)
        except Exception as error:  # of a rule, not of the network, which ran
            del self.labels[labels:]
            unknown(self, call, f'what it does could not be followed ({type(error).__name__}: {error})')
        if any(get_state(tensor) is None for tensor in call.outs):
            unknown(self, call)

    def _read(self, name: str, args: tuple) -> None:
        """Note that control flow learns of a value: what the value is made of keeps its place."""
        self.branches += name == 'bool'
        for tensor in tensors_in(args):
            if isinstance(get_state(tensor), Activation):
                pin = Pin(name, self.place, 'control flow depends on computed values', calling_line())
                self.decisions.append((self.branches - 1 if name == 'bool' else -1, pin))
                self.atoms.pin(self.ids(tensor))

    # -- what rules use ----------------------------------------------------------------

    def ids(self, tensor: Tensor) -> Tensor:
        """Settled ids of a value; parameters get one atom per element."""
        state = get_state(tensor)
        if isinstance(state, Weight):
            return self._activate(state, tensor)
        if isinstance(state, Activation):
            return self.atoms.settle(state.ids)
        return torch.zeros((1,) * tensor.dim(), dtype=torch.long)

    def set(self, tensor: Tensor, ids: Tensor) -> None:
        """Set the atoms that a result carries; ``ids`` broadcast to its shape."""
        frame = self.current.frame if self.current is not None else 0
        set_state(tensor, Activation(self.atoms.settle(ids).expand(tensor.shape), frame))

    def treat(self, ids: Tensor, kinds: Tensor | None = None) -> None:
        """Tell the atoms of a value that the current operation is done to them, and not to others.

        Args:
            ids: Of the value, narrowed.
            kinds: Same shape; numbers of what is done, where the operation does different things.
        """
        code = hashed(self.calls)
        self.atoms.treat(ids, code if kinds is None else kinds * code + code)

    def note(self, reason: str) -> None:
        """Report that the current operation keeps something from moving."""
        pin = Pin(self.current.name, self.place, reason, calling_line())
        if pin not in self.pins:
            self.pins.append(pin)

    def hold(self, ids: Tensor, dims: list[int], reason: str) -> Tensor:
        """Keep the order along ``dims``, with a report where that takes freedom away."""
        ids = self.atoms.settle(ids)
        dims = [dim for dim in dims if ids.size(dim) > 1]
        if dims and not bool(((ids == ids.amax(dims, keepdim=True)) | (ids == 0)).all()):  # not just padding
            self.note(reason)
        return self.atoms.tie_along(ids, dims)

    def hold_all(self, ids: Tensor, reason: str) -> None:
        """Pin every atom of a value."""
        if bool(self.atoms.settle(ids).any()):
            self.note(reason)
            self.atoms.pin(ids)

    def hold_value(self, tensor: Tensor, reason: str) -> None:
        """Pin every atom of a value, or all of the parameters that it is made of."""
        state = get_state(tensor)
        if isinstance(state, Activation):
            self.hold_all(state.ids, reason)
        elif isinstance(state, Weight):
            self.note(reason)
            for source in state.sources:
                self.fixed.add(source.key)
                if source.key in self.activated:
                    self.atoms.pin(self.activated[source.key])

    def label(self, tensor: Tensor, ids: Tensor, role: str) -> None:
        """Set the atoms that the elements of a parameter (or of what was computed from it) belong to.

        Args:
            tensor: A value whose state is :class:`Weight`.
            ids: Broadcastable to its shape.
            role: 'write', 'read' or 'accompany'.
        """
        if role == 'read':
            for value in tensors_in([self.current.args, self.current.kwargs]):
                self._see(self.place, 'read', value)
        ids = self.atoms.settle(ids.reshape((1,) * (tensor.dim() - ids.dim()) + tuple(ids.shape)))
        reads, writes = self._frames_beside(tensor, ids, role)
        for source in get_state(tensor).sources:
            extent = source.shape if source.elements is None else narrow(source.elements).shape
            mine = self.atoms.blocks_over(ids, [dim for dim in varying(ids) if extent[dim] == 1])
            if source.partial:
                self.hold(mine, list(range(mine.dim())), 'a statistic of a parameter stands here')
                continue
            self._tell_codes(source, mine)
            region = None
            if source.elements is not None:
                mine, region = self._scatter(source, mine)
            if bool(mine.any()):
                self.labels.append(Label(source.key, source.shape, mine, role, self.calls, source.visited(), region,
                                         (Use(mine, reads, writes, self.current.name),)))

    def label_read(self, tensor: Tensor, channels: Tensor, dim: int) -> None:
        """Set the atoms of the features that an axis of a parameter reads.

        Features that keep their places get atoms that are pinned, as what else reads that axis cannot move, either.

        Args:
            tensor: A value whose state is :class:`Weight`.
            channels: (features,) or less, where they are one group's.
            dim: The axis.
        """
        fixed = not bool(channels.any())
        if fixed:
            channels = self.atoms.fresh(tensor.shape[dim])
        self.label(tensor, channels.reshape([-1 if axis == dim else 1 for axis in range(tensor.dim())]), 'read')
        if fixed:
            self.atoms.pin(channels)

    def _frames_beside(self, tensor: Tensor, ids: Tensor, role: str) -> tuple[int, int]:
        """Return the frames that a parameter reads and writes; one per feature scales, and rotates nothing."""
        reads, writes = self.current.ports.get(id(tensor)) or (
            (self.current.reads, 0) if role == 'read' else (0, self.current.frame))
        for frame in (reads, writes):
            if get_state(tensor).computed:
                self.frames.limit(frame, ids, 0)
            elif reads and writes:
                self.frames.limit(frame, ids, SCALE, factor=True)
        return reads, writes

    def _tell_codes(self, source: Source, ids: Tensor) -> None:
        """Tell atoms what was done to single elements of a parameter before they met it."""
        if source.codes is not None and bool(ids.any()):
            elements, ids = torch.broadcast_tensors(narrow(source.elements), ids)
            self.atoms.treat(ids, torch.where(elements >= 0, source.codes[elements.clamp(min=0)], 0))

    def _scatter(self, source: Source, ids: Tensor) -> tuple[Tensor, tuple[int, int, int] | None]:
        """Bring labels of a computed value back to the elements of its parameter; as :meth:`Source.vector`."""
        if not bool(ids.any()):
            return ids, None
        vector = source.vector(ids)
        if vector is not None:
            return vector
        elements, ids = torch.broadcast_tensors(narrow(source.elements), ids)
        present = (elements >= 0) & (ids != 0)
        elements, ids = elements[present], ids[present]
        full = torch.zeros(torch.Size(source.shape).numel(), dtype=torch.long)
        full[elements] = ids
        self.atoms.tie(full[elements], ids)
        full = full.reshape(source.shape)
        return self.atoms.settle(full if source.summed is None else full.amax(source.summed, keepdim=True)), None

    def _activate(self, state: Weight, tensor: Tensor) -> Tensor:
        """Turn a value computed from parameters into one that carries one atom per element."""
        ids = torch.zeros((1,) * tensor.dim(), dtype=torch.long)
        for source in state.sources:
            if source.partial or not torch.Size(source.shape).numel():
                continue
            if source.key not in self.activated:
                fresh = self.atoms.fresh(torch.Size(source.shape).numel())
                self.activated[source.key] = fresh
                ids_of_all = fresh.reshape(source.shape)
                frame = self.frame_of[source.key] = self.frames.fresh()
                self.labels.append(Label(source.key, source.shape, ids_of_all, 'accompany', self.calls,
                                         uses=(Use(ids_of_all, 0, frame),)))
            atoms = self.activated[source.key]
            if source.elements is None:
                mine = atoms.reshape(source.shape)
            else:
                elements = narrow(source.elements)
                mine = torch.where(elements >= 0, atoms[elements.clamp(min=0)], 0)
            self._tell_codes(source, mine)
            self._link_activated(source.key, mine, state.computed)
            mine = self.atoms.settle(mine)
            if bool(ids.any()) and not (bool(ids.all()) and bool(mine.all())):  # they stand at different places
                self.atoms.tie(ids, mine)
                ids, mine = torch.broadcast_tensors(ids, mine)
                ids = torch.where(ids == 0, mine, ids)
            else:
                ids = combine(self, Operand(ids, tuple(ids.shape)), Operand(mine, tuple(mine.shape)))
        return self.atoms.settle(ids)

    def _link_activated(self, key: str, ids: Tensor, computed: bool) -> None:
        """Let the elements of a parameter stand in the frame of what an operation makes of them."""
        if computed or not self.current.allowed:
            self.frames.limit(self.frame_of[key], ids, 0)
        else:
            self.frames.join(self.frame_of[key], ids, self.current.frame, ids, ANY & self.current.allowed)

    def is_weight(self, tensor: Any) -> bool:
        """Return whether a value depends on parameters only."""
        return isinstance(tensor, Tensor) and isinstance(get_state(tensor), Weight)

    def is_constant(self, tensor: Any) -> bool:
        """Return whether a value depends on nothing that moves."""
        return not isinstance(tensor, Tensor) or isinstance(get_state(tensor), Constant)


def unknown(tracer: Tracer, call: Call, reason: str = 'no rule for this operation') -> None:
    """An operation without a rule: nothing that enters it may move."""
    for tensor in tensors_in([call.args, call.kwargs]):
        tracer.hold_value(tensor, reason)
    for tensor in call.outs:
        tracer.set(tensor, torch.zeros((1,) * tensor.dim(), dtype=torch.long))
