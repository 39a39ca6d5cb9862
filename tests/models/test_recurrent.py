"""The recurrent network: parameters, pieces of a sequence, padding, dropout, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.golden import golden
from models.networks import close, parameters, zeros

from functional_dl import models, tree

KEY = jax.random.key(0)
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def counted(d, f, out, cell, depth, both):
    """The docstring's formula."""
    ways = 2 if both else 1
    cells = [ways * GATES[cell] * f * (ins + f + 2) for ins in [d, *[ways * f] * (depth - 1)]]
    return sum(cells) + ways * f * out + out


def test_parameters_are_those_of_the_formula():
    for cell in GATES:
        for depth, both in ((1, False), (3, True)):
            model = models.recurrent(3, 4, 2, cell, depth=depth, bidirectional=both)
            assert parameters(model) == counted(3, 4, 2, cell, depth, both)
    names = tree.path_names(jax.eval_shape(models.recurrent(3, 4, 2, bidirectional=True).init, KEY))
    assert "layers/0/forward/input/weight" in names


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.sampled(4)
def test_pieces_of_a_sequence(cell):
    """A sequence in pieces, the carry handed on, is the sequence at once: every step's output, and the last one's."""
    model = models.recurrent(3, 4, 2, cell, depth=2, every_step=True)
    last = models.recurrent(3, 4, 2, cell, depth=2)
    x = golden("x", (2, 7, 3), 4.0)

    @jax.jit
    def all_of(key, x):
        params = model.init(key)
        carry, ys, ends = model.initial((2,), jnp.float64), [], []
        for piece in jnp.split(x, [3, 4], axis=1):
            _, end = last.extend(params, carry, piece)
            carry, y = model.extend(params, carry, piece)
            ys.append(y)
            ends.append(end)
        return jnp.concatenate(ys, 1), jnp.stack(ends, 1), model.apply(params, x), last.apply(params, x)

    ys, ends, expected, at_the_end = all_of(KEY, x)
    close(ys, expected)
    close(ends, expected[:, [2, 3, 6]])
    close(at_the_end, expected[:, -1])


def test_padding_is_never_seen():
    """A padded sequence with its length is the sequence that is cut there: values and gradients, NaN in the padding."""
    x = golden("x", (2, 5, 2), 4.0)
    padded, lengths = x.copy(), np.array([5, 2])
    padded[1, 2:] = np.nan
    model = models.recurrent(2, 3, 2, "rnn", depth=2, bidirectional=True, every_step=True)
    last = models.recurrent(2, 3, 2, "rnn", depth=2, bidirectional=True)

    @jax.jit
    def all_of(key, x, padded):
        params = model.init(key)
        ys, pullback = jax.vjp(lambda p, x: model.apply(p, x, lengths), params, padded)
        cut, cut_pullback = jax.vjp(lambda p, x: model.apply(p, x[1, :2]), params, x)
        ct = jnp.zeros_like(ys).at[1].set(1)  # the bars of the second sequence alone, its padding's outputs too
        ends = last.apply(params, padded, lengths)[1], last.apply(params, x[1, :2])
        return ys, cut, ends, pullback(ct), cut_pullback(jnp.ones_like(cut))

    ys, cut, (end, expected), bars, cut_bars = jax.device_get(all_of(KEY, x, padded))
    close(ys[1, :2], cut)
    close(end, expected)
    assert not ys[1, 2:].any()
    jax.tree.map(close, bars, cut_bars)


def test_dropout_is_between_layers():
    model = models.recurrent(3, 30, 2, "rnn", depth=3, dropout_rate=0.5)
    shallow = models.recurrent(3, 30, 2, "rnn", dropout_rate=0.5)
    x = golden("x", (2, 4, 3))

    @jax.jit
    def all_of(key, x):
        params, flat = model.init(key), shallow.init(key)
        plain = models.recurrent(3, 30, 2, "rnn", depth=3).apply(params, x)
        used = model.apply(params, x, deterministic=True)
        drawn = [model.apply(params, x, key=k) for k in jax.random.split(key)]
        return plain, used, drawn, shallow.apply(flat, x, key=key), shallow.apply(flat, x, deterministic=True)

    plain, used, (one, two), flat, expected = all_of(KEY, x)
    close(used, plain)
    assert (one != two).all()
    assert (one != plain).all()
    close(flat, expected)
    with pytest.raises(ValueError, match="layers/1: key: expected a random key"):
        model.apply(model.init(KEY), x)


MODEL = models.recurrent(3, 4, 2, depth=2)
BOTH = models.recurrent(3, 4, 2, bidirectional=True)
X = np.zeros((2, 5, 3))


@pytest.mark.parametrize(("call", "message"), [
    (lambda p: models.recurrent(3, 4, 2, "lstmm"), "cell: .* did you mean 'lstm'"),
    (lambda p: models.recurrent(3, 4, 2, depth=0), "depth: expected an integer of at least 1"),
    (lambda p: MODEL.apply(p, X[..., :2]), r"layers/0: x: expected shape \(\*batch, time, 3\), got \(2, 5, 2\)"),
    (lambda p: MODEL.apply(p, X[0, 0]), "layers/0: x: expected shape"),
    (lambda p: MODEL.apply(p, X, np.array([1, 6])), r"layers/0: lengths: expected integers in \[0, 5\], .* got 6"),
    (lambda p: MODEL.apply(p, X, np.array([-1, 5])), r"lengths: expected integers in \[0, 5\], .* got -1"),
    (lambda p: MODEL.apply(p, X, np.array([1])), r"lengths: expected shape \(2,\), one for each sequence, got \(1,\)"),
    (lambda p: MODEL.extend(p, MODEL.initial((3,)), X), r"layers/0: carry: expected shape \(2, 4\)"),
    (lambda p: MODEL.extend(p, MODEL.initial((2,))[:1], X), "carry: expected a list of 2, got 1"),
    (lambda p: BOTH.extend(p, BOTH.initial((2,)), X), "extend: expected a network that runs forwards"),
    (lambda p: MODEL.apply(zeros(models.recurrent(3, 4, 2)), X), r"params\['layers'\]: expected a list of 2, got 1"),
    (lambda p: MODEL.apply(zeros(models.recurrent(3, 4, 2, "gru", depth=2)), X),
     r"layers/0/input: params\['weight'\]: expected shape \(3, 16\), got \(3, 12\)"),
    (lambda p: MODEL.apply(zeros(models.recurrent(3, 4, 3, depth=2)), X), r"head: params\['weight'\]: expected shape"),
])  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(zeros(MODEL))


def test_lengths_are_integers():
    with pytest.raises(TypeError, match="layers/0: lengths: expected integers"):
        MODEL.apply(zeros(MODEL), X, np.array([1.0, 2.0]))
