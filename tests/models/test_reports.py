"""Public bug reports about such networks in other frameworks, re-created: here they come out right.

Each test names the reports (repository and number), says what went wrong there, and shows it on the smallest network.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.golden import golden, tokens
from models.networks import close, shape_of, zeros

from functional_dl import layers, models, reverse

KEY = jax.random.key(0)


def test_moments_of_training_arrive_at_evaluation():
    """HomericIntelligence/Odyssey 5543, paiml/aprender 2166, facebookresearch/higher 55: a training step threw the
    moved moments away, and in use the network normalised by 0 and 1: every image got the same class.

    Here they are an output, and a training loop that does not carry them has nothing to hand to the use.  After n steps
    on one batch they are (1 - 0.9^n) of its own, and the network in use approaches the one trained.
    """
    model = models.cnn((4,), 1, 2, stages=[[3]], window=3, hidden=[], batch_norm=True)
    x = 5 + 3 * golden("x", (6, 4, 1), 2.0)

    @jax.jit
    def all_of(key, x):
        params, start = model.init(key), model.initial(jnp.float64)

        def step(moments, _):
            return model.apply(params, moments, x)

        moments, trained = jax.lax.scan(step, start, length=80)
        once, _ = model.apply(params, start, x)
        used, stale = (model.apply(params, m, x, deterministic=True)[1] for m in (moments, start))
        return once, moments, trained[-1], used, stale

    once, moments, trained, used, stale = jax.device_get(all_of(KEY, x))
    once, moments = (m["stages"][0][0]["norm"] for m in (once, moments))
    kept = 0.9**80
    close(moments["mean"], (1 - kept) * once["mean"] / 0.1)
    close(moments["variance"], kept + (1 - kept) * (once["variance"] - 0.9) / 0.1)
    close(used, trained, 5e-3)
    assert np.abs(stale - trained).max() > 0.1


def test_padded_rows_are_no_part_of_the_moments():
    """tensorflow 30161, keras 3228, pytorch 70529: 1, ..., 5 padded with five zeros had mean 1.5 and variance 3.25."""
    model = models.cnn((2,), 1, 1, stages=[[1]], window=1, hidden=[], batch_norm=True, momentum=0.0)
    params = zeros(model)
    params["stages"][0][0] |= {
        "conv": {"weight": np.ones((1, 1, 1))},
        "norm": {"scale": np.ones(1), "bias": np.ones(1)},
    }
    rows = np.array([1.0, 2, 3, 4, 5, 0, 0, 0, 0, 0])
    x, weights = np.broadcast_to(rows[:, None, None], (10, 2, 1)), (rows > 0).astype(float)

    @jax.jit
    def all_of(params, x, weights):
        start = model.initial(jnp.float64)
        return [model.apply(params, start, x, weights=w)[0]["stages"][0][0]["norm"] for w in (weights, None)]

    masked, counted = jax.device_get(all_of(params, x, weights))
    close([masked["mean"][0], masked["variance"][0]], [3.0, 2.0])
    close([counted["mean"][0], counted["variance"][0]], [1.5, 3.25])


def test_even_windows_and_strides_pad_where_they_say():
    """pytorch 3867 and 67551, taehoonlee/tensornets 25: "same" of an even window or with a stride meant other places in
    each framework.

    A convolution of a `cnn` has what is odd at the high end; a `resnet`'s of stride 2 has 1 on both sides, as published
    ones have, where "same" would pad the high end alone and read the places (2 i, 2 i + 1, 2 i + 2).
    """
    even = models.cnn((6,), 1, 6, stages=[[1]], window=4, hidden=[], activation="identity", pool="average")
    params = zeros(even)
    params["stages"][0][0]["conv"]["weight"] = np.array([1.0, 10, 100, 1000]).reshape(4, 1, 1)
    params["head"][0]["weight"] = np.eye(3, 6)
    net = models.resnet(6, 1, 1, widths=(1, 1), axes=1)
    given = zeros(net)
    center = np.array([0.0, 1, 0]).reshape(3, 1, 1)
    given["stem"] = {"conv": {"weight": center}, "norm": {"scale": np.ones(1), "bias": np.ones(1) * 9}}
    given["head"]["weight"] = np.ones((1, 1))
    for block in (given["stages"][0][0], given["stages"][1][0]):
        for name in ("conv1", "conv2"):
            block[name]["weight"] = center
        block["norm1"], block["norm2"] = ({"scale": np.ones(1), "bias": np.ones(1) * 9} for _ in range(2))
    given["stages"][0][0]["norm2"] = {"scale": np.zeros(1), "bias": np.zeros(1)}
    given["stages"][1][0]["conv1"]["weight"] = np.array([1.0, 10, 100]).reshape(3, 1, 1)

    @jax.jit
    def all_of(params, given):
        def logit(x):
            return net.apply(given, net.initial(jnp.float64), x, deterministic=True)[1][0, 0]

        return even.apply(params, jnp.arange(1.0, 7)[:, None]), jax.grad(logit)(jnp.zeros((1, 6, 1)))

    y, bar = jax.device_get(all_of(params, given))
    padded = np.array([0.0, 1, 2, 3, 4, 5, 6, 0, 0])  # 3 of padding: 1 before, 2 behind
    sums = np.convolve(padded, [1000, 100, 10, 1], mode="valid")
    close(y[:3], (sums[::2] + sums[1::2]) / 2)
    r = 1 / np.sqrt(1 + 1e-5)
    seen = np.zeros(6)
    for i in range(3):  # the mean over three places, each of (2 i - 1, 2 i, 2 i + 1), and of the shortcut's 2 i
        for tap, weight in ((-1, 1.0), (0, 10.0), (1, 100.0)):
            if 0 <= 2 * i + tap < 6:
                seen[2 * i + tap] += weight * r**2 / 3
        seen[2 * i] += 1 / 3
    close(bar[0, :, 0], seen * r, 1e-8)


def test_a_palindrome_reads_the_same_from_both_ends():
    """pytorch 517 and 3662, deeplearning4j 1030: the cell that runs backwards started in the padding, and its bias
    moved the state before the first real step.  With one cell's parameters both ways a palindrome shows it."""
    model = models.recurrent(2, 3, 6, "gru", bidirectional=True)
    x = golden("x", (1, 6, 2), 4.0)
    x[0, 2], x[0, 3:] = x[0, 0], 7.0  # steps a b a, and padding

    @jax.jit
    def all_of(key, x):
        params = jax.tree.map(lambda p: p + 0.3, model.init(key))
        params["layers"][0]["backward"] = params["layers"][0]["forward"]
        params["head"] = {"weight": jnp.eye(6), "bias": jnp.zeros(6)}
        return model.apply(params, x, jnp.array([3])), model.apply(params, x)

    (known,), (unknown,) = jax.device_get(all_of(KEY, x))
    close(known[:3], known[3:])
    assert np.abs(unknown[:3] - unknown[3:]).max() > 1e-2


def test_an_example_of_padding_alone_poisons_nobody():
    """pytorch 24816 and 41508: a row of attention with nothing to attend to was 0 / 0, and through the shared weights
    its NaN reached the gradient of the whole batch, although the loss left the row out."""
    model = models.transformer(7, 8, 2, 1, 4, "encoder")
    ids, lengths = tokens("ids", (3, 4), 7), np.array([4, 0, 2])

    @jax.jit
    def all_of(key):
        params = model.init(key)

        def loss(params, rows):
            return jnp.sum(model.apply(params, ids[rows], lengths[rows]) ** 2)

        return [reverse.value_and_grad(loss)(params, rows) for rows in (np.array([0, 1, 2]), np.array([0, 2]))]

    with_it, without = jax.device_get(all_of(KEY))
    jax.tree.map(close, with_it, without)


def test_a_tied_weight_is_one_leaf_with_one_gradient():
    """paiml/entrenar 314, facebookresearch/lingua 74, karpathy/build-nanogpt 89: tied weights were two arrays, each got
    its own half of the gradient, and after a step they were no longer equal.

    Here there is one leaf, and its derivative, by differences along a direction, is that of both uses at once.
    """
    model = models.transformer(5, 4, 1, 1, 3, tied=True)
    ids = np.array([[0, 3, 1]])

    @jax.jit
    def all_of(key):
        params = model.init(key)
        direction = jnp.sin(jnp.arange(20.0)).reshape(5, 4)

        def loss(weight):
            return jnp.sum(jnp.sin(model.apply(params | {"embedding": {"weight": weight}}, ids)))

        weight, h = params["embedding"]["weight"], 1e-5
        steps = jnp.stack([weight + s * h * direction for s in (-2, -1, 1, 2)])
        a, b, c, d = jax.vmap(loss)(steps)
        return params, jnp.vdot(jax.grad(loss)(weight), direction), (a - 8 * b + 8 * c - d) / (12 * h)

    params, ours, differences = jax.device_get(all_of(KEY))
    assert "head" not in params
    assert sum(p.shape == (5, 4) for p in jax.tree.leaves(params)) == 1
    close(ours, differences, 1e-8)


def test_a_token_that_recurs_gathers_all_of_its_gradients():
    """pytorch 1631, mxnet 9172, pymc-devs/pytensor 2242: of equal indices the gradient kept the last one's share.

    A vocabulary in which each place has a token of its own, with equal rows, says what the shares are.
    """
    model, apart = models.transformer(3, 4, 1, 1, 5, out_features=2), models.transformer(7, 4, 1, 1, 5, out_features=2)
    ids, own = np.array([1, 1, 0, 1, 2]), np.array([1, 3, 0, 4, 2])

    @jax.jit
    def all_of(key):
        params = model.init(key)
        weight = params["embedding"]["weight"]
        many = params | {"embedding": {"weight": weight[jnp.array([0, 1, 2, 1, 1, 0, 0])]}}

        def loss(params, model, ids):
            return jnp.sum(model.apply(params, ids) ** 3)

        bars = [
            reverse.grad(lambda p, m=m, i=i: loss(p, m, i))(p) for p, m, i in ((params, model, ids), (many, apart, own))
        ]
        return [bar["embedding"]["weight"] for bar in bars]

    together, shares = jax.device_get(all_of(KEY))
    close(together[1], shares[1] + shares[3] + shares[4])
    close(together[[0, 2]], shares[[0, 2]])
    assert np.abs(shares[[1, 3, 4]]).max(-1).min() > 1e-4


def test_one_token_at_a_time_is_the_whole():
    """pytorch/executorch 2010, lucidrains/x-transformers 219, meta-pytorch/torchtune 959, skyzh/tiny-llm 46: from the
    cache a token was turned by position 0, or by a position counted twice after the prompt, and what was generated was
    junk.  executorch 21749 and onnx 8068: a second piece of several tokens saw the first key alone."""
    model = models.transformer(7, 8, 2, 2, 9, positions="rotary", key_value_heads=1)
    ids = tokens("ids", (2, 9), 7)

    @jax.jit
    def all_of(key):
        params = model.init(key)
        cache, first = model.extend(params, model.initial((2,), 9, jnp.float64), ids[:, :3])
        cache, second = model.extend(params, cache, ids[:, 3:6])

        def step(cache, token):
            return model.extend(params, cache, token[:, None])

        _, rest = jax.lax.scan(step, cache, jnp.asarray(ids[:, 6:].T))
        return jnp.concatenate([first, second, jnp.moveaxis(rest[:, :, 0], 0, 1)], 1), model.apply(params, ids)

    found, expected = all_of(KEY)
    close(found, expected)


def test_positions_keep_apart_in_half_precision():
    """huggingface/transformers 29285, vllm 863, sgl-project/sglang-jax 1473, KellerJordan/modded-nanogpt 39: angles of
    rotary positions were taken in bfloat16, whose integers end at 256, and distant tokens stood in one place."""
    model = models.transformer(7, 8, 2, 1, 4096, dtype=jnp.bfloat16, positions="rotary")
    x, places = golden("x", (64, 1, 8), 2.0), np.arange(4032, 4096)

    @jax.jit
    def all_of(x):
        half = layers.rotary(x.astype(jnp.bfloat16), places)
        table = layers.sinusoidal_positions(4096, 8, jnp.bfloat16)[-64:]
        return half.astype(float), layers.rotary(x, places), table.astype(float)

    half, turned, table = jax.device_get(all_of(x))
    angles = places[:, None] / 10000 ** (np.arange(0, 8, 2) / 8)
    close(half, turned, 2**-6)
    close(table, np.stack([np.sin(angles), np.cos(angles)], -1).reshape(64, 8), 2**-8)
    y = shape_of(model, zeros(model), tokens("ids", (2, 5), 7))
    assert (y.shape, y.dtype) == ((2, 5, 7), jnp.bfloat16)


def test_grouped_heads_read_their_neighbours():
    """onnx 7274, apple/axlearn 842, meta-llama/llama 384: heads of keys were tiled, k0 k1 k0 k1, where the weights had
    been trained with each repeated, k0 k0 k1 k1."""
    grouped, full = models.transformer(7, 8, 4, 1, 4, key_value_heads=2), models.transformer(7, 8, 4, 1, 4)
    ids = tokens("ids", (2, 4), 7)

    def spread(params, order):
        def columns(dense):
            return {
                name: p.reshape(*p.shape[:-1], 2, 2)[..., order, :].reshape(*p.shape[:-1], 8)
                for name, p in dense.items()
            }

        (block,) = params["blocks"]
        wide = block["attention"] | {name: columns(block["attention"][name]) for name in ("key", "value")}
        return params | {"blocks": [block | {"attention": wide}]}

    @jax.jit
    def all_of(key):
        params = grouped.init(key)
        orders = [jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 0, 1])]
        return grouped.apply(params, ids), *[full.apply(spread(params, order), ids) for order in orders]

    found, repeated, tiled = jax.device_get(all_of(KEY))
    close(found, repeated)
    assert np.abs(found - tiled).max() > 1e-3


def test_each_layer_drops_by_a_key_of_its_own():
    """elixir-nx/axon 423, google/flax 3115: one key served every dropout, so that the layers dropped the same units,
    and the same in each call.  Of two layers of ones at rate 1/2 a quarter is left if they are independent, else half.
    """
    model = models.cnn((2,), 1, 2000, stages=[[1]], window=1, hidden=[2000, 2000], activation=jnp.abs, dropout_rate=0.5)
    deep = models.transformer(3, 64, 1, 2, 2, "encoder", out_features=64, dropout_rate=0.5)

    @jax.jit
    def all_of(keys):
        params = {
            "stages": [[{"conv": {"weight": jnp.ones((1, 1, 1)), "bias": jnp.zeros(1)}}]],
            "head": [
                {"weight": jnp.ones((1, 2000)), "bias": jnp.zeros(2000)},
                {"weight": jnp.eye(2000), "bias": jnp.zeros(2000)},
                {"weight": jnp.eye(2000), "bias": jnp.zeros(2000)},
            ],
        }
        left = jax.vmap(lambda key: model.apply(params, jnp.ones((2, 1)), key=key) != 0)(keys)
        # blocks that add their bias 1 alone: x is E + dropped ones of four layers
        made = jax.tree.map(jnp.zeros_like, deep.init(keys[0]))
        for block in made["blocks"]:
            for dense in (block["attention"]["output"], block["output"]):
                dense["bias"] = jnp.ones(64)
        made["norm"]["scale"], made["head"]["weight"] = jnp.ones(64), jnp.eye(64)
        return left, jax.vmap(lambda key: deep.apply(made, jnp.zeros((1, 2), int), key=key))(keys)

    left, sums = jax.device_get(all_of(jax.random.split(KEY)))
    assert (np.abs(left.mean(-1) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2000)).all()
    assert 0.01 < (left[0] & left[1]).mean() < 0.12  # another call's: 1/16
    # sums of four independent ones (0 or 2) take five values, in 64 places at least four; of masks used twice, three
    assert len(np.unique(np.round(sums[0, 0, 0], 6))) > 3


def test_a_token_outside_of_the_vocabulary_is_not_another_token():
    """jax 3774 and 1451, sgl-project/sglang 27482: a lookup beyond the table silently took its last row, and a
    vocabulary that was one too small was found late.  Where numbers are known it is an error, elsewhere NaN."""
    model = models.transformer(5, 4, 1, 1, 3, "encoder")
    params = model.init(KEY)
    with pytest.raises(ValueError, match=r"embedding: tokens: expected integers in \[0, 5\), got 5"):
        model.apply(params, np.array([[0, 5, 1]]))
    y = jax.jit(model.apply)(params, np.array([[0, 5, 1], [0, 4, 1], [0, -1, 1]]))
    np.testing.assert_array_equal(np.isnan(y).all((1, 2)), [True, False, True])
