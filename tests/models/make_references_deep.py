"""Makes references_deep.json: outputs and parameters' gradients of PyTorch's networks in float64.

    pip install torch numpy && python tests/models/make_references_deep.py

PyTorch's own modules where it has them (Conv2d, BatchNorm2d, LSTM, TransformerEncoderLayer, TransformerDecoderLayer),
put together here; rotary positions and grouped queries are written out.  Parameters and inputs are the numbers of
golden.py, which the tests compute again.  Of a gradient, the first entries, the norm and the projection onto such
numbers are kept; of a batch norm, the mean and the (biased) variance of its batch.
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from golden import golden, parameter, tokens
from torch import nn

torch.set_default_dtype(torch.float64)
FOUND = {}


def filled(module):
    """The module with parameters by their names."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(torch.tensor(parameter(name, tuple(p.shape))))
    return module


def reference(name, module, fun, *inputs):
    """fun(module, *inputs) -> output, its cotangent by the name."""
    norms = {n: m for n, m in filled(module).named_modules() if isinstance(m, nn.BatchNorm2d) and m.training}
    moments = {}

    def keep(n):
        def hook(_, args):
            (x,) = args
            moments[n] = [x.mean((0, 2, 3)).tolist(), x.var((0, 2, 3), unbiased=False).tolist()]

        return hook

    hooks = [m.register_forward_pre_hook(keep(n)) for n, m in norms.items()]
    out = fun(module, *inputs)
    for hook in hooks:
        hook.remove()
    ct = torch.tensor(golden(f"{name} ct", tuple(out.shape)))
    named = dict(module.named_parameters())
    bars = torch.autograd.grad(out, list(named.values()), ct)
    FOUND[name] = {
        "out": out.flatten()[:12].tolist(),
        "out_norm": out.norm().item(),
        "out_projection": (out * ct).sum().item(),
        "shapes": {k: list(p.shape) for k, p in named.items()},
        "bars": {
            k: [*bar.flatten()[:3].tolist(), bar.norm().item(), (bar.numpy() * golden(k, tuple(bar.shape))).sum()]
            for k, bar in zip(named, bars)
        },
        "moments": moments,
    }


def given(name, *shape):
    return torch.tensor(golden(name, shape, 2.0))


# ---- convolutional ---------------------------------------------------------------------------------------------------


def lenet():
    return nn.Sequential(
        nn.Conv2d(2, 3, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(3, 4, 5, padding=2), nn.Tanh(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3),
    )  # fmt: skip


def vgg():
    def unit(c, k):
        return [nn.Conv2d(c, k, 3, padding=1, bias=False), nn.BatchNorm2d(k), nn.ReLU()]

    return nn.Sequential(
        *unit(1, 3), *unit(3, 3), nn.MaxPool2d(2), *unit(3, 4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 5),
        nn.ReLU(), nn.Linear(5, 3),
    )  # fmt: skip


def used(module):
    """In use, with given running moments."""
    with torch.no_grad():
        for name, m in module.named_buffers():
            if "running" in name:
                m.copy_(torch.tensor(golden(name, tuple(m.shape))) + name.endswith("var"))
    return module.eval()


reference("lenet", lenet(), lambda m, x: m(x), given("x", 3, 2, 8, 8))
reference("vgg, batch norm", vgg(), lambda m, x: m(x), given("x", 3, 1, 8, 8))
reference("vgg, in use", used(vgg()), lambda m, x: m(x), given("x", 3, 1, 8, 8))


# ---- residual --------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """He et al.'s, in the order that each of the two papers draws."""

    def __init__(self, ins, outs, stride, projection, before):
        super().__init__()
        self.before, self.stride, self.outs = before, stride, outs
        self.conv1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(ins if before else outs)
        self.conv2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outs)
        self.projection = None
        if projection and (stride > 1 or ins != outs):
            self.projection = nn.ModuleDict({"conv": nn.Conv2d(ins, outs, 1, stride, bias=False)})
            if not before:
                self.projection["norm"] = nn.BatchNorm2d(outs)

    def short(self, x):
        if self.projection is None:
            x = x[:, :, :: self.stride, :: self.stride]
            return F.pad(x, (0, 0, 0, 0, 0, self.outs - x.shape[1]))
        x = self.projection["conv"](x)
        return self.projection["norm"](x) if "norm" in self.projection else x

    def forward(self, x):
        if self.before:
            a = F.relu(self.norm1(x))
            short = self.short(x if self.projection is None else a)
            return short + self.conv2(F.relu(self.norm2(self.conv1(a))))
        return F.relu(self.short(x) + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class ResNet(nn.Module):
    def __init__(self, projection, before):
        super().__init__()
        self.before = before
        self.stem = nn.ModuleDict({"conv": nn.Conv2d(2, 3, 3, 1, 1, bias=False)})
        if not before:
            self.stem["norm"] = nn.BatchNorm2d(3)
        stages = [[(3, 3, 1)], [(3, 4, 2)], [(4, 5, 2)]]
        self.stages = nn.ModuleList(
            nn.ModuleList(Block(*sizes, projection, before) for sizes in stage) for stage in stages
        )
        if before:
            self.norm = nn.BatchNorm2d(5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        x = self.stem["conv"](x)
        x = x if self.before else F.relu(self.stem["norm"](x))
        for stage in self.stages:
            for block in stage:
                x = block(x)
        x = F.relu(self.norm(x)) if self.before else x
        return self.head(x.mean((2, 3)))


for projection in (False, True):
    for before in (False, True):
        name = f"resnet, {'projection' if projection else 'padding'}{', pre-activation' if before else ''}"
        reference(name, ResNet(projection, before), lambda m, x: m(x), given("x", 3, 2, 6, 7))


# ---- recurrent -------------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """PyTorch's layers over time and a dense layer, of the last real step or of every step."""

    def __init__(self, kind, both, every):
        super().__init__()
        self.cells = getattr(nn, kind)(3, 4, num_layers=2, batch_first=True, bidirectional=both)
        self.head, self.every = nn.Linear(8 if both else 4, 2), every

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        ys, state = self.cells(packed)
        if self.every:
            ys = nn.utils.rnn.pad_packed_sequence(ys, batch_first=True, total_length=x.shape[1])[0]
            there = torch.arange(x.shape[1])[None] < torch.tensor(lengths)[:, None]
            return self.head(ys) * there[..., None]
        h = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat([h[-2], h[-1]], -1) if self.cells.bidirectional else h[-1])


for kind, both, every in (("RNN", False, True), ("LSTM", True, False), ("GRU", False, False), ("GRU", True, True)):
    name = f"{kind}{', both ways' if both else ''}{', every step' if every else ''}"
    reference(name, Recurrent(kind, both, every), lambda m, x: m(x, [5, 2, 4]), given("x", 3, 5, 3))


# ---- transformers ----------------------------------------------------------------------------------------------------

D, HEADS, HIDDEN, VOCABULARY, LENGTH = 8, 2, 6, 7, 6


class Encoder(nn.Module):
    """PyTorch's layers; no token sees a later one if causal."""

    def __init__(self, before, causal, learned=True, tied=False, vocabulary=VOCABULARY, head=True, depth=1):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, D)
        self.positions = nn.Embedding(LENGTH, D) if learned else None
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(D, HEADS, HIDDEN, 0.0, "gelu", batch_first=True, norm_first=before)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(D) if before else None
        self.head = nn.Linear(D, vocabulary) if head and not tied else None
        self.causal, self.tied = causal, tied

    def embedded(self, ids):
        x = self.embedding(ids) * math.sqrt(D)
        time = ids.shape[1]
        if self.positions is not None:
            return x + self.positions.weight[:time] * math.sqrt(D)
        angle = torch.arange(time)[:, None] / 10000 ** (torch.arange(0, D, 2) / D)
        return x + torch.stack([angle.sin(), angle.cos()], -1).reshape(time, D)

    def forward(self, ids, lengths=None):
        x, time = self.embedded(ids), ids.shape[1]
        later = torch.ones(time, time, dtype=torch.bool).triu(1) if self.causal else None
        gone = None if lengths is None else torch.arange(time)[None] >= torch.tensor(lengths)[:, None]
        for block in self.blocks:
            x = block(x, src_mask=later, src_key_padding_mask=gone)
        x = x if self.norm is None else self.norm(x)
        y = x @ self.embedding.weight.T if self.tied else x if self.head is None else self.head(x)
        return y if gone is None else y * ~gone[..., None]


class EncoderDecoder(nn.Module):
    def __init__(self, before):
        super().__init__()
        self.encoder = Encoder(before, False, vocabulary=5, head=False)
        self.decoder = Encoder(before, True)
        self.decoder.blocks = nn.ModuleList(
            nn.TransformerDecoderLayer(D, HEADS, HIDDEN, 0.0, "gelu", batch_first=True, norm_first=before)
            for _ in range(1)
        )

    def forward(self, source, ids, lengths):
        memory, part, time = self.encoder(source, lengths), self.decoder, ids.shape[1]
        gone = torch.arange(source.shape[1])[None] >= torch.tensor(lengths)[:, None]
        x, later = part.embedded(ids), torch.ones(time, time, dtype=torch.bool).triu(1)
        for block in part.blocks:
            x = block(x, memory, tgt_mask=later, memory_key_padding_mask=gone)
        return part.head(x if part.norm is None else part.norm(x))


class Rotary(nn.Module):
    """One block with grouped queries and rotary positions, complex numbers turned by their angle."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, D)
        self.query, self.key, self.value = nn.Linear(D, D), nn.Linear(D, 4), nn.Linear(D, 4)
        self.output, self.up, self.down = nn.Linear(D, D), nn.Linear(D, HIDDEN), nn.Linear(HIDDEN, D)
        self.norm1, self.norm2, self.norm = nn.LayerNorm(D), nn.LayerNorm(D), nn.LayerNorm(D)
        self.head = nn.Linear(D, VOCABULARY)

    def turned(self, x):  # (batch, heads, time, 2 m): pairs (i, i + m)
        m = x.shape[-1] // 2
        angle = torch.arange(x.shape[-2])[:, None] / 10000 ** (torch.arange(m) / m)
        z = torch.complex(x[..., :m], x[..., m:]) * torch.polar(torch.ones_like(angle), angle)
        return torch.cat([z.real, z.imag], -1)

    def forward(self, ids):
        x = self.embedding(ids) * math.sqrt(D)
        batch, time = ids.shape
        a = self.norm1(x)
        q, k, v = (f(a).reshape(batch, time, -1, 4).transpose(1, 2) for f in (self.query, self.key, self.value))
        y = F.scaled_dot_product_attention(self.turned(q), self.turned(k), v, is_causal=True, enable_gqa=True)
        x = x + self.output(y.transpose(1, 2).reshape(batch, time, D))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(self.norm(x))


IDS = torch.tensor(tokens("ids", (3, 5), VOCABULARY))
SOURCE = torch.tensor(tokens("source", (3, 4), 5))
reference("decoder", Encoder(True, True, depth=2), lambda m, ids: m(ids), IDS)
reference("decoder, tied, sinusoidal", Encoder(True, True, False, True), lambda m, ids: m(ids), IDS)
reference("encoder, lengths", Encoder(True, False), lambda m, ids: m(ids, [5, 2, 3]), IDS)
reference("encoder, post-norm, lengths", Encoder(False, False), lambda m, ids: m(ids, [5, 2, 3]), IDS)
reference("rotary, grouped", Rotary(), lambda m, ids: m(ids), IDS)
for before in (True, False):
    name = f"encoder_decoder{'' if before else ', post-norm'}"
    reference(name, EncoderDecoder(before), lambda m, ids: m(SOURCE, ids, [4, 1, 3]), IDS)

if __name__ == "__main__":
    Path(__file__).with_name("references_deep.json").write_text(
        json.dumps({"torch": torch.__version__, "cases": FOUND}, separators=(",", ":"))
    )
    print(len(FOUND), "references")
