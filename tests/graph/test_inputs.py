"""Networks with inputs and outputs of many kinds, and what is said of those that cannot be followed."""
import copy
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from space_models import CifarResNet, image
from torch import Tensor, nn
from torch.nn.utils import prune

from mmreuse.errors import SpaceError, TraceError
from mmreuse.graph import capture, copy_model, cut, cut_points, trace, verified


@dataclass
class Output:
    """What a network of Hugging Face returns, in short."""
    last_hidden_state: Tensor
    pooler_output: Tensor | None = None


class Bert(nn.Module):
    """Tokens, positions and types, attention with a mask, an output in a dataclass."""

    def __init__(self, vocabulary: int = 50, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(32, width)
        self.types, self.norm, self.heads = nn.Embedding(2, width), nn.LayerNorm(width), heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.dense, self.up, self.down = nn.Linear(width, width), nn.Linear(width, 20), nn.Linear(20, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.pooler = nn.Linear(width, 7)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None,
                token_type_ids: Tensor | None = None) -> Output:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        kinds = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        x = self.words(input_ids) + self.positions(torch.arange(input_ids.shape[1])) + self.types(kinds)
        x = self.norm(x)
        bias = (1. - mask[:, None, None].to(x.dtype)) * torch.finfo(torch.float32).min

        def split(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)
        x = self.norm1(x + self.dense(y))
        x = self.norm2(x + self.down(F.gelu(self.up(x))))
        return Output(self.pooler(x), self.pooler(x[:, 0]).tanh())


class Gpt(nn.Module):
    """Causal, with the table of tokens as its head, and a dict as its output."""

    def __init__(self, vocabulary: int = 40, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.wte, self.wpe, self.heads = nn.Embedding(vocabulary, width), nn.Embedding(32, width), heads
        self.ln1, self.ln2, self.lnf = (nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.out = nn.Linear(width, 20), nn.Linear(20, width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.wte.weight
        self.register_buffer('causal', torch.tril(torch.ones(32, 32, dtype=torch.bool)))

    def forward(self, tokens: Tensor) -> OrderedDict:
        n = tokens.shape[1]
        x = self.wte(tokens) + self.wpe(torch.arange(n))
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.qkv(self.ln1(x)).chunk(3, -1))
        scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~self.causal[:n, :n], float('-inf'))
        x = x + self.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        x = x + self.out(F.gelu(self.fc(self.ln2(x))))
        return OrderedDict(logits=self.head(self.lnf(x)))


TOKENS = torch.zeros(2, 6, dtype=torch.long)


@pytest.mark.parametrize('inputs', [TOKENS, (TOKENS, torch.ones_like(TOKENS)),
                                    dict(input_ids=TOKENS, token_type_ids=TOKENS)], ids=['ids', 'mask', 'keywords'])
def test_language_models_are_proved_by_varying_their_tokens(inputs):
    graph = verified(Bert(), inputs)
    report = graph.verify()
    assert report.error < 1e-9 and any('(2, 12)' in case for case in report.cases)
    assert graph.spaces['up'].size == 20
    stream = next(space for space in graph.spaces.values() if 'words.weight' in {axis.tensor for axis in space.axes})
    assert verified(Bert(), TOKENS + 1).spaces.keys() == graph.spaces.keys()  # tokens that look like a mask
    assert {'positions.weight', 'types.weight', 'dense.weight', 'down.weight', 'pooler.weight'} <= {
        axis.tensor for axis in stream.axes}


def test_causal_models_with_tied_tables_are_proved():
    graph = verified(Gpt(), TOKENS)
    assert graph.verify().error < 1e-9
    assert graph.spaces['fc'].size == 20 and 'value.weight' not in graph.report()
    # A table that is written and read along one axis can be permuted, but not merged, and so it stays.
    assert any('wte.weight' in pin.reason for pin in graph.pins)


Batch = namedtuple('Batch', 'image scale')


class OfBatch(CifarResNet):
    def forward(self, batch):
        return super().forward(batch.image * batch.scale)


class OfTwo(CifarResNet):
    def forward(self, image, scale):
        return super().forward(image * scale)


@pytest.mark.parametrize('model', [OfBatch, OfTwo])
@pytest.mark.parametrize('nested', [False, True])
def test_named_tuples_are_one_argument_or_several(model, nested):
    batch = Batch(image(), torch.ones(1, 1, 1, 1))
    inputs = (batch,) if nested else batch
    if nested and model is OfTwo:
        with pytest.raises(TraceError, match='does not run.*scale'):
            trace(model(1), inputs)
        return
    graph = verified(model(1), inputs)
    assert graph.verify().error < 1e-9


class Answer:
    """An object of a class of the network's own."""

    def __init__(self, scores: Tensor) -> None:
        self.scores, self.parts = scores, [scores * 2]


def test_outputs_are_found_in_any_object():
    class Wrapped(CifarResNet):
        def forward(self, x):
            return {'answers': [(Answer(super().forward(x)), 'text')]}

    graph = verified(Wrapped(1), image())
    assert graph.verify().error < 1e-9 and 'linear.weight' in {
        axis.tensor for space in graph.spaces.values() for axis in space.axes}
    assert not any(axis.tensor == 'linear.bias' for space in graph.spaces.values() for axis in space.axes)


def test_lazy_modules_become_what_they_are():
    model = nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.LazyConv2d(6, 3), nn.Flatten(), nn.LazyLinear(4))
    graph = verified(model, torch.zeros(1, 3, 8, 8))
    assert [space.size for space in graph.spaces.values()] == [8, 6] and model.training
    with pytest.raises(TraceError, match='lazy modules and does not run'):
        trace(nn.Sequential(nn.LazyLinear(4), nn.Linear(5, 2)), torch.zeros(1, 3))


def test_what_takes_inputs_by_name_only_is_told_so():
    class ByName(CifarResNet):
        def forward(self, *, x):
            return super().forward(x)

    with pytest.raises(TraceError, match='x by keyword only'):
        trace(ByName(1), dict(x=image()))
    with pytest.raises(TraceError, match='does not take the inputs y'):
        trace(CifarResNet(1), dict(y=image()))


# -- networks that hide what they do ---------------------------------------------------------


def opaque() -> dict:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    in_place = copy.deepcopy(model)
    in_place.compile()
    return {'compiled': (torch.compile(model), 'model._orig_mod'), 'in place': (in_place, 'before compile'),
            'scripted': (torch.jit.script(model), 'it was made of'),
            'traced': (torch.jit.trace(model, image()), 'it was made of'),
            'exported': (torch.export.export(model, (image(),)), 'it was made of'),
            'parallel': (nn.DataParallel(model), 'model.module'),
            'a part': (nn.Sequential(torch.compile(model)), 'before compile'),
            'function': (model.forward, 'as a module')}


@pytest.mark.parametrize('entry', [trace, verified, capture, cut_points, lambda model, x: cut(model, '0', x),
                                   lambda model, _: copy_model(model)],
                         ids=['trace', 'verified', 'capture', 'cut_points', 'cut', 'copy'])
def test_every_entry_says_what_to_give_instead(entry):
    for kind, (model, remedy) in opaque().items():
        with pytest.raises(TraceError, match=f'(?s)hides its operations: give .*{remedy}'):
            entry(model, image())
            pytest.fail(f'{kind} was taken')


# -- failures --------------------------------------------------------------------------------


class Failing(CifarResNet):
    def forward(self, x):
        x = super().forward(x)
        raise RuntimeError('of its own')


class Unfollowed(CifarResNet):
    """Runs, but not under a trace."""

    def forward(self, x):
        return torch.from_numpy(super().forward(x).numpy() * 2)


def test_an_error_of_the_network_is_told_from_one_of_tracing():
    with pytest.raises(TraceError, match=r'Failing does not run .*RuntimeError: of its own.*test_inputs.py:\d+'):
        trace(Failing(1), image())
    with pytest.raises(TraceError, match='numpy'):
        trace(Unfollowed(1), image())

    class Confused(CifarResNet):
        def forward(self, x):
            assert type(torch.overrides._get_current_function_mode_stack()) is list
            if torch.overrides._get_current_function_mode_stack():
                raise ValueError('no modes, please')
            return super().forward(x)

    with pytest.raises(TraceError, match=r'Confused runs, but could not be traced: ValueError: no modes.*test_inputs'):
        trace(Confused(1), image())


@pytest.mark.parametrize('model', [Failing, Unfollowed])
def test_a_failed_trace_leaves_nothing_behind(model):
    modes = torch.utils._python_dispatch._get_current_dispatch_mode_stack()
    with pytest.raises(TraceError):
        trace(model(1), image())
    assert torch.utils._python_dispatch._get_current_dispatch_mode_stack() == modes
    assert trace(CifarResNet(1), image()).spaces


class OldStyle(CifarResNet):
    """Makes a variable of a buffer, as PyTorch did before 0.4: an alias that no traced operation makes."""

    def __init__(self) -> None:
        super().__init__(1)
        self.register_buffer('scale', torch.rand(3, 1, 1))

    def forward(self, x):
        return super().forward(x * torch.autograd.Variable(self.scale) + torch.autograd.Variable(x))


def test_variables_of_tensors_are_followed():
    assert verified(OldStyle(), image()).verify().error < 1e-9
    assert verified(CifarResNet(1), image()).verify().error < 1e-9


def test_outputs_without_the_input_prove_nothing():
    class Deaf(CifarResNet):
        def forward(self, x):
            return super().forward(torch.ones_like(x))

    with pytest.raises(SpaceError, match='do not depend on its input'):
        verified(Deaf(1), image())


# -- copies ----------------------------------------------------------------------------------


class Keeping(CifarResNet):
    """Keeps what it computed, in a container, as LeViT does with its biases."""

    def forward(self, x):
        x = super().forward(x)
        self.kept = {'last': [x]}
        return x


def test_a_network_that_keeps_a_result_is_copied():
    model = Keeping(1)
    expected = model(image()).detach()
    assert not model.kept['last'][0].is_leaf
    twin = copy_model(model)
    assert torch.equal(twin.kept['last'][0], expected) and twin.kept['last'][0].is_leaf
    assert not model.kept['last'][0].is_leaf
    assert verified(model, image()).verify().error < 1e-9


def test_a_masked_network_is_copied_with_its_masks():
    model = CifarResNet(1).eval()
    prune.random_unstructured(model.conv1, 'weight', 0.5)
    expected = model(image() + 1)
    twin = copy_model(model)
    assert torch.equal(twin(image() + 1), expected)
    assert twin.conv1.weight_orig is not model.conv1.weight_orig
    with torch.no_grad():
        twin.conv1.weight_orig.zero_()
    assert not torch.equal(twin(image() + 1), expected) and torch.equal(model(image() + 1), expected)


def test_what_cannot_be_copied_is_told():
    model = CifarResNet(1)
    model.log = (number for number in range(3))
    with pytest.raises(TraceError, match='cannot be copied: .*generator'):
        copy_model(model)


# -- random numbers --------------------------------------------------------------------------


def test_dropout_that_stays_on_in_evaluation_is_named():
    class Careless(CifarResNet):
        def forward(self, x):
            return F.dropout(super().forward(x))

    with pytest.warns(UserWarning, match=r"Careless draws random numbers.*'dropout'.*test_inputs.py:\d+.*training"):
        graph = verified(Careless(1), image())
    assert graph.share > .9


def test_noise_in_evaluation_is_named():
    class Noisy(CifarResNet):
        def forward(self, x):
            return super().forward(x + torch.randn(x.shape))

    with pytest.warns(UserWarning, match="'randn'"):
        assert verified(Noisy(1), image()).verify().error < 1e-9
