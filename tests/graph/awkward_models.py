"""Small networks, one for every way in which channels of one tensor are treated differently, or are hard to follow."""
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations


class Between(nn.Module):
    """A function of a map between two convolutions, the second followed by a linear head."""

    def __init__(self, function: Callable[[Tensor], Tensor], width: int = 8, outside: int | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 1, 1)
        self.function = function
        self.after = nn.Conv2d(outside or width, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.after(self.function(self.stem(x)))).mean((2, 3)))


# -- channels treated by position ----------------------------------------------------------


def half_activated(x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return torch.cat([F.relu(first), torch.tanh(second)], 1)


def half_identity(x: Tensor) -> Tensor:
    return torch.cat([x[:, :4], F.relu(x[:, 4:])], 1)


def in_place_slice(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, :4].relu_()
    x[:, 2:6] *= 3
    return x


def half_scaled(x: Tensor) -> Tensor:
    return x * torch.tensor([1., 1., 1., 1., 2., 2., 2., 2.])[:, None, None]


def half_pooled(x: Tensor) -> Tensor:
    first, second = x.split([4, 4], 1)
    return torch.cat([F.max_pool2d(first, 3, 1, 1), second], 1)


def half_normalised(x: Tensor) -> Tensor:
    return torch.cat([F.normalize(x[:, :4], dim=1), x[:, 4:]], 1)


def half_upsampled(x: Tensor) -> Tensor:
    return torch.cat([F.interpolate(x[:, :4, ::2, ::2], scale_factor=2.), x[:, 4:]], 1)


def per_channel(x: Tensor) -> Tensor:
    functions = [F.relu, torch.tanh, torch.sigmoid, torch.sin] * 2
    return torch.stack([function(x[:, channel]) for channel, function in enumerate(functions)], 1)


def shifted(x: Tensor) -> Tensor:
    """S2-MLP: quarters of the channels move one place in each direction."""
    x = x.clone()
    x[:, :2, 1:] = x[:, :2, :-1].clone()
    x[:, 2:4, :-1] = x[:, 2:4, 1:].clone()
    x[:, 4:6, :, 1:] = x[:, 4:6, :, :-1].clone()
    return x


def rolled(x: Tensor) -> Tensor:
    return torch.cat([x[:, :4].roll(1, 2), x[:, 4:].transpose(2, 3)], 1)


def negative_to_zero(x: Tensor) -> Tensor:
    x = x.clone()
    x[x < 0] = 0
    return x


def written_through_permuted_view(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    view = out.permute(0, 2, 3, 1)
    view[..., :4] = x.permute(0, 2, 3, 1)[..., :4]
    view[..., 4:] = F.relu(x.permute(0, 2, 3, 1)[..., 4:])
    return out


class TemporalShift(nn.Module):
    """TSM: an eighth of the channels comes from the next frame, another from the last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.after = nn.Conv2d(8, 8, 3, 2, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        n, frames = x.shape[:2]
        y = self.stem(x.flatten(0, 1)).relu().unflatten(0, (n, frames))
        out = torch.zeros_like(y)
        out[:, :-1, :2] = y[:, 1:, :2]
        out[:, 1:, 2:4] = y[:, :-1, 2:4]
        out[:, :, 4:] = y[:, :, 4:]
        y = self.after(out.flatten(0, 1)).relu().mean((2, 3))
        return self.head(y.unflatten(0, (n, frames)).mean(1))


# -- kernels that are computed -------------------------------------------------------------


class HyperNetwork(nn.Module):
    """A linear layer whose weight is computed from features."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.hyper = nn.Conv2d(3, 6, 4, 4), nn.Linear(4, 6 * 7)
        self.code = nn.Conv2d(3, 4, 4, 4)
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.hyper(F.relu(self.code(x).mean((0, 2, 3)))).reshape(7, 6)
        return self.head(F.linear(F.relu(self.stem(x)).mean((2, 3)), weight).relu())


class Orthogonal(nn.Module):
    """A linear layer under an orthogonal parametrization."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 10, 1)
        self.turn = parametrizations.orthogonal(nn.Linear(10, 10))
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.turn(F.relu(self.wide(F.relu(self.stem(x)))).mean((2, 3))).relu())


class Lora(nn.Module):
    """A weight merged of a dense and a low-rank part."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.weight = nn.Parameter(torch.randn(8, 6))
        self.up, self.down = nn.Parameter(torch.randn(8, 2)), nn.Parameter(torch.randn(2, 6))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x)).mean((2, 3))
        return self.head(F.linear(x, self.weight + self.up @ self.down).relu())


class Capsules(nn.Module):
    """Routing by agreement between capsules (Sabour et al., 2017), two rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.primary = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 12, 3, 2, 1)
        self.weight = nn.Parameter(torch.randn(1, 48, 5, 6, 4) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        u = self.primary(F.relu(self.stem(x))).reshape(len(x), 3, 4, 16).transpose(2, 3).reshape(len(x), 48, 4)
        u = F.normalize(u, dim=-1)
        votes = (self.weight @ u[:, :, None, :, None]).squeeze(-1)
        logits = torch.zeros(len(x), 48, 5, 1)
        for _ in range(2):
            v = F.normalize((logits.softmax(2) * votes).sum(1, keepdim=True), dim=-1)
            logits = logits + (votes * v).sum(-1, keepdim=True)
        return (logits.softmax(2) * votes).sum(1).norm(dim=-1)


class ShuffledResidual(nn.Module):
    """Grouped convolution, shuffle and grouped convolution inside a residual (ShuffleNet v1, IGCV3)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, 2, 1)
        self.first, self.second = nn.Conv2d(12, 12, 1, groups=3), nn.Conv2d(12, 12, 1, groups=3)
        self.depthwise = nn.Conv2d(12, 12, 3, 1, 1, groups=12)
        self.wide = nn.Conv2d(12, 16, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = F.relu(self.first(x))
        n, c, h, w = y.shape
        y = y.reshape(n, 3, 4, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = x + self.second(self.depthwise(y))
        return self.head(F.relu(self.wide(x)).mean((2, 3)))


# -- values made of parameters -------------------------------------------------------------


class Queries(nn.Module):
    """Learned queries behind a layer norm, which read a stream through a fused or a sliced projection."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.embed = nn.Conv2d(3, 12, 4, 4)
        self.queries, self.norm = nn.Parameter(torch.randn(1, 4, 12)), nn.LayerNorm(12)
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        queries = self.queries if self.kind == 'plain' else self.norm(self.queries)
        queries = queries.expand(len(x), -1, -1)
        if self.kind == 'sliced':
            weight, bias = self.attention.in_proj_weight, self.attention.in_proj_bias
            q = F.linear(queries, weight[:12], bias[:12])
            k, v = F.linear(x, weight[12:], bias[12:]).chunk(2, -1)
            q, k, v = (item.unflatten(-1, (3, 4)).transpose(1, 2) for item in (q, k, v))
            y = self.attention.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        else:
            y = self.attention(queries, x, x, need_weights=False)[0]
        return self.head(y.mean(1))


class PinnedQuery(Queries):
    """One of the streams of a fused attention is the input itself, which cannot move."""

    def __init__(self) -> None:
        super().__init__('plain')
        self.mlp = nn.Linear(12, 9)
        self.last = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        stream = self.embed(x).flatten(2).transpose(1, 2)
        given = x.flatten(2)[:, :, :12]
        y = self.attention(given, stream, stream, need_weights=False)[0]
        return self.last(F.relu(self.mlp(y)).mean(1))


class Probe(Queries):
    """A learned query reads a stream that is returned, too, and so cannot move; one projection reads both (SigLIP)."""

    def __init__(self) -> None:
        super().__init__('plain')

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        stream = self.embed(x).flatten(2).transpose(1, 2)
        y = self.attention(self.queries.expand(len(x), -1, -1), stream, stream, need_weights=False)[0]
        return stream, self.head(y.mean(1))


class ReadTwice(nn.Module):
    """A layer reads hidden channels, and others that keep their places: those of the input, or of what is returned."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.hidden, self.other = nn.Conv2d(3, 3, 3, 1, 1), nn.Conv2d(3, 3, 3, 1, 1)
        self.shared, self.head = nn.Conv2d(3, 12, 1), nn.Linear(12, 20)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept = x if self.kind == 'input' else self.other(x)
        hidden = F.relu(self.hidden(x))
        if self.kind == 'linear':
            weight = self.shared.weight.flatten(1)
            y = F.linear(hidden.movedim(1, -1), weight[:6]) + F.linear(kept.movedim(1, -1), weight[6:])
            y = torch.cat([y, F.linear(kept.movedim(1, -1), weight[6:])], -1).movedim(-1, 1)
        else:
            y = self.shared(hidden) + self.shared(kept)
        return kept, self.head(F.relu(y).mean((2, 3)))


class ClassToken(nn.Module):
    """Class token and prompt behind a norm, joined with tokens (CaiT, XCiT)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 12, 4, 4)
        self.token, self.prompt = nn.Parameter(torch.randn(1, 1, 12)), nn.Parameter(torch.randn(1, 2, 12))
        self.norm, self.prompt_norm = nn.LayerNorm(12), nn.LayerNorm(12)
        self.layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        extra = torch.cat([self.norm(self.token), self.prompt_norm(self.prompt)], 1)
        return self.head(self.layer(torch.cat([extra.expand(len(x), -1, -1), x], 1))[:, 0])


class ParameterByHalves(nn.Module):
    """A bias of which one half goes through tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bias = nn.Conv2d(3, 8, 3, 2, 1), nn.Parameter(torch.randn(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.bias[:4].tanh(), self.bias[4:]])
        return self.head(F.relu(self.stem(x) + bias[:, None, None]).mean((2, 3)))


# -- recurrent layers, grouped queries, complex numbers ------------------------------------


class Recurrent(nn.Module):
    """A recurrent layer over rows, with an initial state from features or over packed sequences."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.wide = nn.Conv2d(6, 10, 1)
        self.state = nn.Linear(10, 7)
        layer = dict(lstm=nn.LSTM, rnn=nn.RNN).get(kind, nn.GRU)
        self.layer = (nn.GRUCell(10, 7) if kind == 'cell' else
                      layer(10, 7, 2, batch_first=True, bidirectional=kind == 'lstm'))
        self.head = nn.Linear(14 if kind == 'lstm' else 7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.wide(F.relu(self.stem(x)))).flatten(2).transpose(1, 2)
        if self.kind == 'packed':
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.full((len(x),), x.shape[1]), batch_first=True)
            y, _ = nn.utils.rnn.pad_packed_sequence(self.layer(packed)[0], batch_first=True)
        elif self.kind == 'cell':
            hidden = self.state(x[:, 0])
            for step in range(4):
                hidden = self.layer(x[:, step], hidden)
            return self.head(hidden)
        else:
            hidden = self.state(x.mean(1)).expand(4 if self.kind == 'lstm' else 2, -1, -1).contiguous()
            y, _ = self.layer(x, (hidden, hidden.tanh()) if self.kind == 'lstm' else hidden)
        return self.head(y.mean(1))


class GroupedQueries(nn.Module):
    """Four heads of queries read two of keys and values, with rotary embeddings of real or complex numbers, or none."""

    def __init__(self, rotary: str = '', fused: bool = True) -> None:
        super().__init__()
        self.rotary, self.fused = rotary, fused
        self.embed = nn.Conv2d(3, 12, 4, 4)
        self.q, self.kv, self.out = nn.Linear(12, 16), nn.Linear(12, 16), nn.Linear(16, 12)
        self.gate, self.up, self.down = nn.Linear(12, 20), nn.Linear(12, 20), nn.Linear(20, 12)
        self.head = nn.Linear(12, 5)
        angles = torch.outer(torch.arange(16.), torch.tensor([1., 0.3]))
        self.register_buffer('angles', angles, persistent=False)

    def turn(self, x: Tensor) -> Tensor:
        if self.rotary == 'complex':
            pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
            return torch.view_as_real(pairs * torch.polar(torch.ones_like(self.angles), self.angles)).flatten(-2)
        if self.rotary == 'axial':
            first, second = x.chunk(2, -1)
            return torch.cat([first * self.angles.cos() - second * self.angles.sin(),
                              second * self.angles.cos() + first * self.angles.sin()], -1)
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        q = self.q(x).unflatten(-1, (4, 4)).transpose(1, 2)
        k, v = (item.unflatten(-1, (2, 4)).transpose(1, 2) for item in self.kv(x).chunk(2, -1))
        q, k = self.turn(q), self.turn(k)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        else:
            k, v = (item.repeat_interleave(2, 1) for item in (k, v))
            y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return self.head((x + self.down(F.silu(self.gate(x)) * self.up(x))).mean(1))


class Fourier(nn.Module):
    """Global filters: a transform of positions, times a complex parameter (GFNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.filter = nn.Conv2d(3, 6, 4, 4), nn.Parameter(torch.randn(6, 4, 3, 2))
        self.mlp, self.head = nn.Conv2d(6, 9, 1), nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = torch.fft.irfft2(torch.fft.rfft2(x) * torch.view_as_complex(self.filter), s=x.shape[2:])
        return self.head(F.relu(self.mlp(x)).mean((2, 3)))


# -- computed indices ----------------------------------------------------------------------


class Experts(nn.Module):
    """A mixture of experts: rows by their best expert, written by masks or added by index."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.embed, self.gate = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 8)) for _ in range(3))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2).flatten(0, 1)
        weights = self.gate(x).softmax(-1)
        best = weights.argmax(-1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            if self.kind == 'mask':
                rows = best == number
                out[rows] = expert(x[rows])
            else:
                rows = torch.where(best == number)[0]
                out.index_add_(0, rows, expert(x[rows]) * weights[rows, number, None])
        return self.head(F.relu(x + out)).reshape(-1, 16, 5).mean(1)


class Detector(nn.Module):
    """Keeps the places where a score is high."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.score, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 1, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        image, row, column = torch.where(self.score(x)[:, 0] > -100)
        return self.head(x[image, :, row, column]).reshape(len(x), -1, 5).mean(1)


class EmptyParameter(nn.Module):
    """A bank of no register tokens (DINOv3)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.registers = nn.Conv2d(3, 12, 4, 4), nn.Parameter(torch.zeros(1, 0, 12))
        self.mlp, self.head = nn.Linear(12, 9), nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.registers.expand(len(x), -1, -1), x], 1)
        return self.head(F.relu(self.mlp(x)).mean(1))


class PositionBias(nn.Module):
    """Heads folded into the batch, with positions read from queries (bottleneck attention)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 24, 1)
        self.relative = nn.Parameter(torch.randn(16, 4))
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.qkv(self.stem(x))
        n, _, h, w = x.shape
        q, k, v = (item.reshape(n * 2, 4, h * w).mT for item in x.chunk(3, 1))
        logits = q @ k.mT + q @ self.relative.mT
        y = (logits.softmax(-1) @ v).mT.reshape(n, 8, h, w)
        return self.head(F.relu(self.norm(y)).mean((2, 3)))


class ClosedGate(nn.Module):
    """A branch whose channels keep their order joins a stream through a gate that starts at zero (NF-ECA-ResNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.slide, self.gate = nn.Conv1d(1, 1, 3, padding=1), nn.Parameter(torch.zeros(()))
        self.wide, self.head = nn.Conv2d(8, 12, 1), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = self.branch(x)
        y = y * self.slide(y.mean((2, 3))[:, None]).sigmoid()[:, 0, :, None, None]
        return self.head(F.relu(self.wide(x + y * self.gate)).mean((2, 3)))


MAPS = (half_activated, half_identity, in_place_slice, half_scaled, half_pooled, half_normalised, half_upsampled,
        per_channel, shifted, rolled, negative_to_zero, written_through_permuted_view)

#: By name: how to build the network, and the least share of its parameters that must be able to move.
MODELS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    **{function.__name__: (lambda function=function: Between(function), 0.95) for function in MAPS},
    'per_channel': (lambda: Between(per_channel), 0.25),
    'temporal_shift': (TemporalShift, 0.95),
    'hyper_network': (HyperNetwork, 0.9),
    'orthogonal': (Orthogonal, 0.75),
    'low_rank': (Lora, 0.95),
    'capsules': (Capsules, 0.9),
    'shuffled_residual': (ShuffledResidual, 0.9),
    **{f'queries_{kind}': (lambda kind=kind: Queries(kind), 0.95) for kind in ('plain', 'normed', 'sliced')},
    'pinned_query': (PinnedQuery, 0.9),
    'probe': (Probe, 0.35),
    **{f'read_twice_{kind}': (lambda kind=kind: ReadTwice(kind), 0.5) for kind in ('input', 'output', 'linear')},
    'class_token': (ClassToken, 0.95),
    'parameter_by_halves': (ParameterByHalves, 0.95),
    **{f'recurrent_{kind}': (lambda kind=kind: Recurrent(kind), 0.9)
       for kind in ('lstm', 'gru', 'rnn', 'packed', 'cell')},
    **{f'grouped_queries_{rotary or "plain"}': (lambda rotary=rotary: GroupedQueries(rotary), 0.95)
       for rotary in ('', 'complex', 'axial')},
    'repeated_keys': (lambda: GroupedQueries(fused=False), 0.95),
    'fourier': (Fourier, 0.9),
    **{f'experts_{kind}': (lambda kind=kind: Experts(kind), 0.95) for kind in ('mask', 'index')},
    'detector': (Detector, 0.9),
    'empty_parameter': (EmptyParameter, 0.95),
    'position_bias': (PositionBias, 0.95),
    'closed_gate': (ClosedGate, 0.15),
}
