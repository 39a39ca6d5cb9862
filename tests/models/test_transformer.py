"""Transformers: parameters, who sees whom, padding, the cache, what is drawn, tied weights, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.golden import golden, tokens
from models.networks import close, parameters, shape_of, zeros

from functional_dl import models, tree

KEY = jax.random.key(0)
IDS, SOURCE = tokens("ids", (3, 6), 7), tokens("source", (3, 4), 5)


def counted(
    v, d, heads, depth, length, m=None, groups=None, learned=True, post=False, tied=False, bias=True, cross=False
):
    """The docstring's formula."""
    e, m = d * (groups or heads) // heads, m or 4 * d
    block = 2 * d * d + 2 * d * e + 2 * d * m + 4 * d + (2 * d + 2 * e + m + d if bias else 0)
    block += 2 * d * d + 2 * d * e + 2 * d + (2 * d + 2 * e if bias else 0) if cross else 0
    around = v * d + (length * d if learned else 0) + (0 if post else 2 * d)
    return around + depth * block + (0 if tied else d * v + (v if bias else 0))


def test_parameters_are_those_of_the_formula():
    assert parameters(models.transformer(65, 128, 4, 2, 256)) == counted(65, 128, 4, 2, 256)
    grouped = models.transformer(7, 8, 4, 2, 9, hidden=6, key_value_heads=2, positions="rotary", post_norm=True)
    assert parameters(grouped) == counted(7, 8, 4, 2, 9, 6, 2, learned=False, post=True)
    bare = models.transformer(7, 8, 2, 1, 9, "encoder", positions="sinusoidal", tied=True, use_bias=False)
    assert parameters(bare) == counted(7, 8, 2, 1, 9, learned=False, tied=True, bias=False)
    both = models.transformer(7, 8, 2, 2, 9, "encoder_decoder", source_vocabulary=5)
    source = counted(5, 8, 2, 2, 9, tied=True)  # an encoder has no logits of its own
    assert parameters(both) == source + counted(7, 8, 2, 2, 9, cross=True)
    names = tree.path_names(jax.eval_shape(both.init, KEY))
    assert "decoder/blocks/1/cross_attention/query/weight" in names


def test_a_token_is_seen_by_later_ones_alone():
    """A later token changes no earlier logit, and no earlier logit has a derivative with respect to it."""
    model, encoder = models.transformer(7, 8, 2, 2, 6), models.transformer(7, 8, 2, 2, 6, "encoder")
    ids = np.array([[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 6, 6]])

    @jax.jit
    def all_of(key):
        params = model.init(key)

        def at_third(p):
            y = model.apply(p, ids)
            return y[0, 2].sum(), y

        bars, y = jax.grad(at_third, has_aux=True)(params)
        return y, encoder.apply(params, ids), bars

    y, seen, bars = jax.device_get(all_of(KEY))
    close(y[0, :4], y[1, :4], 1e-14)
    assert (np.abs(y[0] - y[1])[4:].max(-1) > 1e-3).all()
    assert (np.abs(seen[0] - seen[1]).max(-1) > 1e-3).all()
    for name in ("embedding", "positions"):
        assert not bars[name]["weight"][3:].any()
        assert np.abs(bars[name]["weight"][:3]).max(-1).min() > 1e-4


def test_padding_is_never_seen():
    """With its length a padded sequence is the sequence that is cut there; any number may stand in the padding."""
    model = models.transformer(7, 8, 2, 2, 6, "encoder", post_norm=True, positions="sinusoidal")
    lengths = np.array([6, 2, 0])
    mask = np.arange(6) < lengths[:, None]
    padded = np.where(mask, IDS, 1000)

    @jax.jit
    def all_of(key):
        params = model.init(key)
        y, pullback = jax.vjp(lambda p: model.apply(p, padded, lengths), params)
        one, cut = jax.vjp(lambda p: model.apply(p, IDS[1, :2]), params)
        bars = pullback(jnp.zeros_like(y).at[1:].set(1))[0], cut(jnp.ones_like(one))[0]
        return y, one, model.apply(params, IDS, mask=mask), bars

    y, one, masked, (bars, expected) = jax.device_get(all_of(KEY))
    close(y[1, :2], one)
    close(masked, y)
    assert not y[~mask].any()
    jax.tree.map(close, bars, expected)
    model.apply(zeros(model), padded, lengths)  # where the numbers are known, those of the padding are not refused


CACHED = {
    "learned": {},
    "rotary, grouped queries": {"positions": "rotary", "key_value_heads": 1},
    "sinusoidal, post-norm, tied": {"positions": "sinusoidal", "post_norm": True, "tied": True},
}


@pytest.mark.parametrize("name", CACHED)
@pytest.mark.sampled(4)
def test_pieces_and_what_is_generated(name):
    """From the cache, in pieces, the logits are those of the whole; the most probable continuation follows them."""
    model = models.transformer(7, 8, 2, 1, 8, **CACHED[name])

    @jax.jit
    def all_of(key):
        params = model.init(key)
        cache = model.initial((3,), 6, jnp.float64)
        cache, first = model.extend(params, cache, IDS[:, :2])
        cache, rest = model.extend(params, cache, IDS[:, 2:])
        beyond = model.extend(params, cache, IDS[:, :1])[1]
        return params, jnp.concatenate([first, rest], 1), model.apply(params, IDS), beyond

    params, found, expected, beyond = all_of(KEY)
    close(found, expected)
    assert np.isnan(beyond).all()  # not known while tracing: an error where it is
    more = np.asarray(model.generate(params, KEY, IDS[:, :3], 6, temperature=0.0))
    sequence = np.concatenate([IDS[:, :3], more], 1)
    logits = jax.jit(model.apply)(params, sequence[:, :-1])
    np.testing.assert_array_equal(np.argmax(logits, -1)[:, 2:], more)


def test_what_is_drawn_has_the_models_law():
    """The first token's frequencies among many draws, at two temperatures; keys, not chance, say what is drawn."""
    model = models.transformer(4, 4, 1, 1, 3)
    params = model.init(KEY)
    prompt = np.zeros((4000, 1), np.int32)
    logits = np.asarray(jax.jit(model.apply)(params, prompt[0]))[0] * 2
    params["head"] = jax.tree.map(lambda p: p * 2, params["head"])
    for temperature in (1.0, 0.5):
        drawn = np.asarray(model.generate(params, jax.random.key(1), prompt, 2, jnp.asarray(temperature)))
        law = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
        frequencies = np.bincount(drawn[:, 0], minlength=4) / len(drawn)
        assert (np.abs(frequencies - law) < 4 * np.sqrt(law / len(drawn))).all()
    even = np.asarray(model.generate(params, KEY, prompt, 2, jnp.asarray(1e6)))  # all four alike, and each step anew
    assert abs(np.mean(even[:, 0] == even[:, 1]) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / len(even))
    same, other = (np.asarray(model.generate(params, jax.random.key(k), prompt, 2, 0.5)) for k in (1, 2))
    np.testing.assert_array_equal(same, drawn)
    assert (other != same).any()


def test_an_encoder_and_a_decoder():
    """A source's padding is never seen, pieces are the whole, and what is generated is the most probable."""
    model = models.transformer(7, 8, 2, 1, 6, "encoder_decoder", source_vocabulary=5, key_value_heads=1)
    lengths = np.array([4, 1, 2])
    changed = np.where(np.arange(4) < lengths[:, None], SOURCE, -1)

    @jax.jit
    def all_of(key):
        params = model.init(key)
        memory = model.encode(params, changed, lengths)
        cache = model.initial(params, memory, 6, lengths)
        cache, first = model.extend(params, cache, IDS[:, :2])
        cache, rest = model.extend(params, cache, IDS[:, 2:])
        sources = np.stack([SOURCE, (SOURCE + 1) % 5])
        expected, other = model.apply(params, sources, np.stack([IDS, IDS]), np.stack([lengths, lengths]))
        one = model.apply(params, SOURCE[1, :1], IDS[1])
        padded = model.apply(params, SOURCE, IDS, lengths, np.array([6, 2, 3]))
        return params, jnp.concatenate([first, rest], 1), expected, one, padded, other

    params, found, expected, one, padded, other = all_of(KEY)
    close(found, expected)
    close(one, expected[1])
    close(padded[1, :2], expected[1, :2])
    assert not np.asarray(padded)[1, 2:].any()
    assert (np.abs(other - expected).max(-1) > 1e-4).all()
    more = np.asarray(model.generate(params, KEY, changed, IDS[:, :2], 4, 0.0, source_lengths=lengths))
    logits = jax.jit(model.apply)(params, SOURCE, np.concatenate([IDS[:, :2], more], 1)[:, :-1], lengths)
    np.testing.assert_array_equal(np.argmax(logits, -1)[:, 1:], more)


def test_tied_weights_gather_both_uses():
    """E_bar is the sum of an untied network's two, as reverse has it too."""
    tied, untied = models.transformer(7, 8, 2, 1, 6, tied=True), models.transformer(7, 8, 2, 1, 6)
    ct = golden("ct", (3, 6, 7))

    @jax.jit
    def all_of(key):
        params = tied.init(key)
        weight = params["embedding"]["weight"]
        apart = params | {"head": {"weight": weight.T, "bias": jnp.zeros(7)}}
        y, pullback = jax.vjp(lambda p: tied.apply(p, IDS), params)
        expected, both = jax.vjp(lambda p: untied.apply(p, IDS), apart)
        return y, expected, pullback(ct)[0], both(ct)[0]

    y, expected, bars, apart = jax.device_get(all_of(KEY))
    close(y, expected)
    close(bars["embedding"]["weight"], apart["embedding"]["weight"] + apart["head"]["weight"].T)
    assert np.abs(apart["embedding"]["weight"]).max() > 1e-2


def test_dropout_and_its_key():
    model, plain = (models.transformer(7, 8, 2, 1, 6, dropout_rate=r) for r in (0.3, 0.0))

    @jax.jit
    def all_of(key):
        params = model.init(key)
        drawn = jax.vmap(lambda k: model.apply(params, IDS, key=k))(jax.random.split(key))
        return drawn, model.apply(params, IDS, deterministic=True), plain.apply(params, IDS, key=key)

    (one, two), used, expected = jax.device_get(all_of(KEY))
    close(used, expected)
    assert (np.abs(one - two).max(-1) > 1e-4).all()
    with pytest.raises(ValueError, match="key: expected a random key for dropout"):
        shape_of(model, zeros(model), IDS)


MODEL, BOTH = models.transformer(7, 8, 2, 2, 6), models.transformer(7, 8, 2, 2, 6, "encoder_decoder")
ZEROS, BOTH_ZEROS = zeros(MODEL), zeros(BOTH)


def _cache(position, room=6):
    cache = MODEL.initial((3,), room, jnp.float64)
    return {"blocks": [{**block, "position": jnp.array(position)} for block in cache["blocks"]]}


@pytest.mark.parametrize(("call", "message"), [
    (lambda: models.transformer(7, 8, 3, 2, 6), "heads: expected a divisor of the 8 features, got 3"),
    (lambda: models.transformer(7, 8, 4, 2, 6, key_value_heads=3), "key_value_heads: expected a divisor of the 4"),
    (lambda: models.transformer(7, 6, 2, 2, 6, positions="rotary"), "heads: expected an even number of features"),
    (lambda: models.transformer(7, 7, 1, 2, 6, positions="sinusoidal"), "features: expected an even number"),
    (lambda: models.transformer(7, 8, 2, 2, 6, positions="rotry"), "positions: .* did you mean 'rotary'"),
    (lambda: models.transformer(7, 8, 2, 2, 6, "decodr"), "kind: .* did you mean 'decoder'"),
    (lambda: models.transformer(7, 8, 2, 2, 6, tied=True, out_features=3), "out_features: expected the vocabulary 7"),
    (lambda: models.transformer(7, 8, 2, 2, 6, source_vocabulary=3), "source_vocabulary: expected none"),
    (lambda: MODEL.apply(ZEROS, IDS + 1), r"embedding: tokens: expected integers in \[0, 7\), got 7"),
    (lambda: MODEL.apply(ZEROS, -IDS), r"embedding: tokens: expected integers in \[0, 7\), got -"),
    (lambda: MODEL.apply(ZEROS, np.zeros((3, 7), int)), r"tokens: expected a time axis \(-1\) of at most 6, got shape"),
    (lambda: MODEL.apply(ZEROS, IDS, np.array([1, 2, 7])), r"lengths: expected integers in \[0, 6\], .* got 7"),
    (lambda: MODEL.apply(ZEROS, IDS, np.array([1])), r"lengths: expected shape \(3,\)"),
    (lambda: MODEL.apply(ZEROS, IDS, mask=np.ones((3, 5), bool)), r"mask: expected the shape of tokens, \(3, 6\)"),
    (lambda: MODEL.apply(ZEROS, IDS, np.array([1, 2, 3]), mask=IDS > 0), "mask: expected lengths or a mask, got both"),
    (lambda: MODEL.apply(ZEROS, np.array(1)), r"tokens: expected shape \(\*batch, time\), got \(\)"),
    (lambda: shape_of(MODEL, zeros(models.transformer(7, 8, 2, 1, 6)), IDS), "'blocks'.: expected a list of 2, got 1"),
    (lambda: shape_of(MODEL, zeros(models.transformer(7, 8, 2, 2, 6, hidden=5)), IDS),
     r"blocks/0/hidden: params\['weight'\]: expected shape \(8, 32\), got \(8, 5\)"),
    (lambda: shape_of(MODEL, zeros(models.transformer(7, 8, 2, 2, 6, key_value_heads=1)), IDS),
     r"blocks/0/attention/key: params\['weight'\]: expected shape \(8, 8\), got \(8, 4\)"),
    (lambda: shape_of(MODEL, zeros(models.transformer(7, 8, 2, 2, 6, positions="rotary")), IDS),
     "params: expected an entry 'positions'"),
    (lambda: shape_of(MODEL, zeros(models.transformer(7, 16, 2, 2, 6)), IDS), "embedding: params"),
    (lambda: MODEL.initial((3,), 7), "length: expected at most 6, the longest sequence, got 7"),
    (lambda: MODEL.extend(ZEROS, _cache(5), IDS[:, :2]), "tokens: expected at most 1 more in this cache of 6"),
    (lambda: MODEL.extend(ZEROS, _cache(0), IDS[:2]), r"tokens: expected the batch axes of the cache, \(3,\), got"),
    (lambda: MODEL.generate(ZEROS, KEY, IDS[:, :3], 5), "steps: expected at most 4 after a prompt of 3"),
    (lambda: MODEL.generate(ZEROS, KEY, IDS[:, :3], 0), "steps: expected an integer of at least 1"),
    (lambda: MODEL.generate(ZEROS, KEY, IDS[:, :3], 2, -1.0), "temperature: expected values in"),
    (lambda: MODEL.generate(ZEROS, KEY, IDS[:, :3] + 7, 2), r"embedding: prompt: expected integers in \[0, 7\)"),
    (lambda: BOTH.apply(BOTH_ZEROS, SOURCE + 5, IDS), r"encoder/embedding: source: expected integers in \[0, 7\)"),
    (lambda: shape_of(BOTH, BOTH_ZEROS, SOURCE[:2], IDS), "decoder: tokens: expected the batch axes of source"),
    (lambda: shape_of(BOTH, ZEROS, SOURCE, IDS), "params: expected an entry 'encoder'"),
])  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_kinds_of_bad_input():
    with pytest.raises(TypeError, match="tokens: expected integers, got dtype float64"):
        MODEL.apply(ZEROS, IDS / 2)
    with pytest.raises(TypeError, match="mask: expected booleans"):
        MODEL.apply(ZEROS, IDS, mask=IDS)
    with pytest.raises(TypeError, match="key: expected one PRNG key"):
        MODEL.generate(ZEROS, 0, IDS[:, :3], 2)
