"""activations, losses, penalties, initializers, layers, models, backprop, tree: what the formulas say on paper."""

import math

import jax
import numpy as np
from scipy.special import erf, expit

from functional_dl import activations, backprop, initializers, layers, losses, models, penalties, tree
from tests.settings.values import Example

Z = np.array([-1.5, 0.5, 2.0])
P = np.array([0.2, 0.3, 0.5])  # a distribution
ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805
SIGMA = expit(Z)
PHI, DENSITY = 0.5 * (1 + erf(Z / math.sqrt(2))), np.exp(-Z * Z / 2) / math.sqrt(2 * math.pi)
SOFTPLUS = np.log1p(np.exp(Z))
SOFTMAX = np.exp(Z) / np.exp(Z).sum()
INNER = math.sqrt(2 / math.pi) * (Z + 0.044715 * Z**3)
INNER_PRIME = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * Z**2)

ACTIVATIONS = {  # name -> f(Z), f'(Z)
    "identity": (Z, np.ones(3)),
    "relu": (np.maximum(Z, 0), Z > 0),
    "relu6": (np.clip(Z, 0, 6), (Z > 0) & (Z < 6)),
    "leaky_relu": (np.where(Z > 0, Z, 0.01 * Z), np.where(Z > 0, 1, 0.01)),
    "elu": (np.where(Z > 0, Z, np.expm1(Z)), np.where(Z > 0, 1, np.exp(Z))),
    "celu": (np.where(Z > 0, Z, np.expm1(Z)), np.where(Z > 0, 1, np.exp(Z))),
    "selu": (SCALE * np.where(Z > 0, Z, ALPHA * np.expm1(Z)), SCALE * np.where(Z > 0, 1, ALPHA * np.exp(Z))),
    "sigmoid": (SIGMA, SIGMA * (1 - SIGMA)),
    "tanh": (np.tanh(Z), 1 - np.tanh(Z) ** 2),
    "softsign": (Z / (1 + abs(Z)), 1 / (1 + abs(Z)) ** 2),
    "hard_sigmoid": (np.clip((Z + 3) / 6, 0, 1), np.full(3, 1 / 6)),
    "hard_swish": (Z * np.clip((Z + 3) / 6, 0, 1), (2 * Z + 3) / 6),
    "log_sigmoid": (np.log(SIGMA), 1 - SIGMA),
    "hard_tanh": (np.clip(Z, -1, 1), abs(Z) < 1),
    "softplus": (SOFTPLUS, SIGMA),
    "silu": (Z * SIGMA, SIGMA * (1 + Z * (1 - SIGMA))),
    "mish": (Z * np.tanh(SOFTPLUS), np.tanh(SOFTPLUS) + Z * SIGMA / np.cosh(SOFTPLUS) ** 2),
    "gelu": (Z * PHI, PHI + Z * DENSITY),
    "gelu_tanh": (
        0.5 * Z * (1 + np.tanh(INNER)),
        0.5 * (1 + np.tanh(INNER)) + 0.5 * Z * (1 - np.tanh(INNER) ** 2) * INNER_PRIME,
    ),
    "softmax": (SOFTMAX, np.diag(SOFTMAX) - np.outer(SOFTMAX, SOFTMAX)),
    "log_softmax": (np.log(SOFTMAX), np.eye(3) - SOFTMAX),
}


def _activation(name, suffix, right):
    return Example(lambda v: (getattr(activations, name + suffix)(v.batch([Z])), np.asarray([right], float)))


EXAMPLES = {
    f"activations.{name}{suffix}": _activation(name, suffix, right)
    for name, pair in ACTIVATIONS.items()
    for suffix, right in zip(("", "_prime"), pair)
}
EXAMPLES["activations.get"] = Example(lambda v: (activations.get("relu").fun(v.number(-2.0)), 0.0))

A, T = np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.5, 2.5])
D, E = A - T, 2 * A - T
B, Y = np.array([0.3, 0.9]), np.array([1.0, 0.0])  # probabilities and truth values
L, S = np.array([0.4, -1.2]), np.array([1.0, -1.0])  # log odds and signs
COUNT = np.array([2.0, 0.0])
PT = np.where(Y == 1, expit(L), 1 - expit(L))
SIGNED = 2 * Y - 1
Q = np.array([0.5, 0.25, 0.25])
COSINE = A @ T / (np.linalg.norm(A) * np.linalg.norm(T))
COSINE_PRIME = -(T / (np.linalg.norm(A) * np.linalg.norm(T)) - COSINE * A / (A @ A))
TWO_PI = 0.5 * math.log(2 * math.pi)

LOSSES = {  # name -> (arguments, l, dl/dpred)
    "squared_error": ((A, T), D**2, 2 * D),
    "half_squared_error": ((A, T), D**2 / 2, D),
    "absolute_error": ((A, T), abs(D), np.sign(D)),
    "huber": ((2 * A, T), np.where(abs(E) <= 1, E**2 / 2, abs(E) - 0.5), np.clip(E, -1, 1)),
    "log_cosh": ((A, T), np.log(np.cosh(D)), np.tanh(D)),
    "quantile": ((A, T), 0.5 * abs(D), 0.5 * np.sign(D)),
    "binary_cross_entropy": ((B, Y), -np.log(np.where(Y == 1, B, 1 - B)), np.where(Y == 1, -1 / B, 1 / (1 - B))),
    "sigmoid_cross_entropy": ((L, Y), np.log1p(np.exp(L)) - Y * L, expit(L) - Y),
    "focal": (
        (L, Y),
        -((1 - PT) ** 2) * np.log(PT),
        SIGNED * (1 - PT) ** 2 * (2 * PT * np.log(PT) - (1 - PT)),
    ),
    "hinge": ((L, S), np.maximum(1 - S * L, 0), np.where(S * L < 1, -S, 0)),
    "squared_hinge": ((L, S), np.maximum(1 - S * L, 0) ** 2, -2 * S * np.maximum(1 - S * L, 0)),
    "log_poisson": ((L, COUNT), np.exp(L) - COUNT * L, np.exp(L) - COUNT),
    "poisson": ((B, COUNT), B - COUNT * np.log(B), 1 - COUNT / B),
    "cross_entropy": ((P, Q), -(Q @ np.log(P)), -Q / P),
    "kl_divergence": ((P, Q), Q @ np.log(Q / P), -Q / P),
    "softmax_cross_entropy": ((Z, P), np.log(np.exp(Z).sum()) - P @ Z, SOFTMAX - P),
    "cosine": ((A, T), 1 - COSINE, COSINE_PRIME),
    "gaussian_nll": ((A, T, np.full(3, 4.0)), TWO_PI + 0.5 * (math.log(4) + D**2 / 4), D / 4),
}


def _loss(name, suffix, arguments, right):
    return Example(lambda v: (getattr(losses, name + suffix)(*map(v.batch, arguments)), np.asarray(right, float)))


EXAMPLES |= {
    f"losses.{name}{suffix}": _loss(name, suffix, arguments, right)
    for name, (arguments, *pair) in LOSSES.items()
    for suffix, right in zip(("", "_prime"), pair)
}
EXAMPLES["losses.softmax_cross_entropy, classes"] = Example(
    lambda v: (losses.softmax_cross_entropy(v.batch([Z, Z]), v.integers([0, 2])), np.log(np.exp(Z).sum()) - Z[[0, 2]])
)
EXAMPLES["losses.get"] = Example(lambda v: (losses.get("huber").fun(v.array([3.0]), v.array([1.0])), np.array([1.5])))

W = {"w": np.array([[1.0, -2.0]]), "b": np.array([0.5])}


def _penalty(fun, right, *settings):
    return Example(lambda v: (fun({name: v.array(x) for name, x in W.items()}, *map(v.number, settings)), right))


EXAMPLES |= {
    "penalties.l1": _penalty(penalties.l1, 3.5),
    "penalties.l2": _penalty(penalties.l2, 5.25),
    "penalties.elastic_net": _penalty(penalties.elastic_net, 0.25 * 3.5 + 0.75 * 5.25, 0.25),
    "penalties.gradient_l2": _penalty(penalties.gradient_l2, {"w": 2 * W["w"], "b": 2 * W["b"]}),
    "penalties.subgradient_l1": _penalty(penalties.subgradient_l1, {"w": np.sign(W["w"]), "b": np.sign(W["b"])}),
    "penalties.subgradient_elastic_net": _penalty(
        penalties.subgradient_elastic_net, {n: 0.25 * np.sign(x) + 1.5 * x for n, x in W.items()}, 0.25
    ),
    "penalties.prox_l1": _penalty(penalties.prox_l1, {"w": np.array([[0.0, -1.0]]), "b": np.array([0.0])}, 1.0),
    "penalties.prox_l2": _penalty(penalties.prox_l2, {n: x / 2 for n, x in W.items()}, 0.5),
    "penalties.prox_elastic_net": _penalty(
        penalties.prox_elastic_net, {"w": np.array([[0.5, -1.5]]) / 2, "b": np.array([0.0])}, 1.0, 0.5
    ),
}


def _dense(v):
    layer = layers.dense(2, 3)
    params = layer.init(v.key())
    x = v.batch([[1.0, -1.0], [0.5, 2.0]])
    return layer.apply(params, x), np.asarray(x) @ np.asarray(params["weight"]) + np.asarray(params["bias"])


def _affine(v):
    params = {"weight": v.array([[1.0, 2.0], [3.0, 4.0]]), "bias": v.array([0.5, -0.5])}
    return layers.affine(params, v.batch([[1.0, 1.0]])), np.array([[4.5, 5.5]])


def _dropout(v):
    """Each entry is 0 or doubled, and by the law of large numbers half of them are."""
    y = layers.dropout(v.key(), v.batch(np.ones(2000)), 0.5)
    return ({*np.unique(y).tolist()} == {0.0, 2.0}, abs(float(np.mean(y)) - 1) < 0.1), (True, True)


Z3 = np.array([[-1.0, 0.0, 1.0]])


def _attention(v):
    """Scores ln 3 and 0: weights 3/4 and 1/4; by blocks of one query, and masked to the second key."""
    query, key = v.batch([[[[math.log(3.0)]], [[0.0]]]]), v.batch([[[[1.0]], [[0.0]]]])
    value = v.batch([[[[4.0]], [[8.0]]]])
    masked = layers.dot_product_attention(query, key, value, np.array([False, True]))
    by_blocks = layers.dot_product_attention(query, key, value, block_size=1)
    return (by_blocks, masked), (np.array([[[[5.0]], [[6.0]]]]), np.full((1, 2, 1, 1), 8.0))


RAMP = np.array([[[1.0], [2.0], [3.0], [4.0]]])


def _attention_layer(v):
    """One head of width 1: scores ln 3 and 0 for the first query, 0 and 0 for the second."""
    layer = layers.attention(1, 1, use_bias=False)
    params = {name: {"weight": v.array([[1.0]])} for name in ("query", "key", "value", "output")}
    x = math.sqrt(math.log(3.0))
    return layer.apply(params, v.batch([[[x], [0.0]]])), np.array([[[0.75 * x], [0.5 * x]]])


def _convolution(v, layer, right, **options):
    """Of 1, 2, 3 with a window (1, 2): x_i + 2 x_{i+1}, or the adjoint of that."""
    layer = layer(1, 1, 2, **options)
    params = {"weight": v.array([[[1.0]], [[2.0]]]), "bias": v.array([0.0])}
    return layer.apply(params, v.batch([[[1.0], [2.0], [3.0]]])), np.array([right])


def _batch_norm(v):
    """Mean 2 and variance 1, epsilon 3."""
    layer = layers.batch_norm(1, momentum=0.5, epsilon=3.0)
    params = {"scale": v.array([2.0]), "bias": v.array([1.0])}
    moments = {"mean": v.array([0.0]), "variance": v.array([1.0])}
    moved, y = layer.apply(params, moments, v.batch([[1.0], [3.0]]))
    used = layer.apply(params, moments, v.batch([[2.0]]), deterministic=True)[1]
    right = {"mean": np.array([1.0]), "variance": np.array([1.0])}, np.array([[0.0], [2.0]]), np.array([[3.0]])
    return (moved, y, used), right


def _group_norm(v):
    """Groups (1, 3) and (5, 7): mean 2 and 6, variance 1."""
    right = np.array([[-0.5, 0.5, -0.5, 0.5]])
    return _normal(v, layers.group_norm(4, 2, epsilon=3.0), right, [[1.0, 3.0, 5.0, 7.0]])


def _normal(v, layer, right, x):
    params = {name: v.array(np.asarray(value)) for name, value in layer.init(v.key()).items()}
    return layer.apply(params, v.batch(x)), right


def _embedding(v):
    layer = layers.embedding(3, 2)
    table = np.arange(6.0).reshape(3, 2)
    return layer.apply({"weight": v.array(table)}, v.integers([2, 0])), table[[2, 0]]


def _cell_params(v, gates):
    """W = 1 and U = 0 for every gate, biases 0.5 and 0."""
    return {
        "input": {"weight": v.array(np.ones((1, gates))), "bias": v.array(np.full(gates, 0.5))},
        "hidden": {"weight": v.array(np.zeros((1, gates))), "bias": v.array(np.zeros(gates))},
    }


def _cell(v, cell, gates, right):
    """From zero at x = 1: every gate's sum is 1.5."""
    zero = v.batch([[0.0]])
    carry = (zero, zero) if gates == 4 else zero
    return cell(1, 1).apply(_cell_params(v, gates), carry, v.batch([[1.0]]))[1], np.array([[right]])


def _over_time(v, layer):
    """Two steps at x = 0.5 and 1, of which the second is past the length."""
    params, zero = _cell_params(v, 1), v.batch([[0.0]])
    both = isinstance(layer.initial(), tuple)
    params, carry = ({"forward": params, "backward": params}, (zero, zero)) if both else (params, zero)
    ys = layer.apply(params, carry, v.batch([[[0.5], [1.0]]]), v.integers([1]))[1]
    return ys, np.array([[[np.tanh(1.0)] * (2 if both else 1), [0.0] * (2 if both else 1)]])


def _linear_cross_entropy(v):
    """Logits z = x W with W the identity, at once and by blocks of one."""
    args = v.batch([Z, Z]), v.array(np.eye(3)), v.integers([0, 2])
    right = -np.log(SOFTMAX[[0, 2]])
    found = losses.linear_cross_entropy(*args), losses.linear_cross_entropy(*args, block_size=1)
    return found, (right, right)


def _mlp(v):
    network = models.mlp((2, 3, 1), "tanh")
    params = network.init(v.key())
    x = v.batch([[1.0, -1.0]])
    (w1, b1), (w2, b2) = [(np.asarray(p["weight"]), np.asarray(p["bias"])) for p in params["layers"]]
    return network.apply(params, x), np.tanh(np.asarray(x) @ w1 + b1) @ w2 + b2


def _linear(v):
    model = models.linear(2)
    params, x = model.init(v.key()), v.batch([[1.0, -1.0]])
    return model.apply(params, x), np.asarray(x) @ np.asarray(params["weight"]) + np.asarray(params["bias"])


def _logistic(v):
    model = models.logistic(2)
    params, x = model.init(v.key()), v.batch([[1.0, -1.0]])
    z = np.asarray(x) @ np.asarray(params["weight"]) + np.asarray(params["bias"])
    return (model.apply(params, x), model.probabilities(params, x)), (z, expit(z))


def _halves(v):
    """Params of an encoder from 2 entries to 1 and of a decoder back, for a code x_1 + 2 x_2 + 1."""
    layer = lambda weight, bias: {"layers": [{"weight": v.array(weight), "bias": v.array(bias)}]}
    return {"encoder": layer([[1.0], [2.0]], [1.0]), "decoder": layer([[1.0, -1.0]], [0.0, 3.0])}


def _autoencoder(v):
    model, params = models.autoencoder((2, 1)), _halves(v)
    x = v.batch([[1.0, 2.0]])
    return (model.encode(params, x), model.apply(params, x)), (np.array([[6.0]]), np.array([[6.0, -3.0]]))


def _vae(v):
    """Mean 6, logarithm of the variance 0, noise -6: z = 0, the decoder's output (0, 3) against (1, 0)."""
    model = models.vae((2, 1))
    params = _halves(v)
    params["encoder"]["layers"][0] = {"weight": v.array([[1.0, 0.0], [2.0, 0.0]]), "bias": v.array([5.0, 0.0])}
    x = v.batch([[1.0, 0.0]])
    found = model.apply(params, x, noise=v.batch([[-6.0]])), model.loss(params, x, noise=v.batch([[-6.0]]))
    drawn = model.sample(params, v.key(), (2,)).shape
    right = np.array([[0.0, 3.0]]), np.array([[6.0]]), np.array([[0.0]])
    return (found, drawn), ((right, np.array([math.log(2) + np.log1p(np.exp(3.0)) + 18.0])), (2, 2))


def _gan(v):
    """Images 0; a critic of weights 1/2 and 1/4, whose rectifier is never in its left half: D(x) is affine."""
    model = models.gan(8, latent=2, width=1, loss="wasserstein", norm="none", initializer="zeros")
    params = model.init(v.key())
    params["critic"] = {
        "blocks": [{"conv": {"weight": v.array(np.full((4, 4, 1, 1), 1 / 2)), "bias": v.array([20.0])}}],
        "dense": {"weight": v.array(np.full((16, 1), 1 / 4)), "bias": v.array([1.0])},
    }
    x, z = v.batch(np.ones((1, 8, 8, 1))), v.batch([[1.0, -1.0]])
    found = model.apply(params, z), model.discriminate(params, x), model.generator_loss(params, z)
    of_critic = model.penalty(params, x), model.discriminator_loss(params, x, z, key=v.key())
    # how often windows of 4 with stride 2 and padding 1 meet a pixel, along each axis; 1/2 x 1/4 each time
    pixels = np.outer([1, *[2] * 6, 1], [1, *[2] * 6, 1]) / 8
    penalty = (math.sqrt((pixels**2).sum()) - 1) ** 2
    real = 16 * 20.0 / 4 + pixels.sum() + 1
    fake = 16 * 20.0 / 4 + 1
    right = np.zeros((1, 8, 8, 1)), np.array([real]), np.array([-fake])
    return (found, of_critic), (right, (np.array([penalty]), np.array([fake - real + 10 * penalty])))


def _backprop(v):
    """Two dense layers with tanh and half squared error, its chain rule written out in NumPy."""
    w1, b1, w2, b2 = np.array([[0.5, -1.0]]), np.array([0.1, 0.2]), np.array([[1.0], [-0.5]]), np.array([0.3])
    x, y = np.array([[2.0], [-1.0]]), np.array([[1.0], [0.0]])
    params = {"layers": [{"weight": v.array(w), "bias": v.array(b)} for w, b in ((w1, b1), (w2, b2))]}
    _, grads, _ = backprop.gradients(
        params, v.batch(x), v.batch(y), activation=("tanh", "identity"), loss="half_squared_error"
    )
    a1 = np.tanh(x @ w1 + b1)
    delta2 = (a1 @ w2 + b2 - y) / 2
    delta1 = delta2 @ w2.T * (1 - a1**2)
    right = [{"weight": x.T @ delta1, "bias": delta1.sum(0)}, {"weight": a1.T @ delta2, "bias": delta2.sum(0)}]
    return jax.tree.leaves(grads), jax.tree.leaves(right)


def _output_delta(v):
    f, loss = activations.get("identity"), losses.get("squared_error")
    z = v.batch([[1.0, 2.0]])
    return backprop.output_delta(f, loss, z, z, v.batch([[0.0, 0.5]])), np.array([[2.0, 3.0]])


def _through(v):
    return backprop.through(activations.get("tanh"), v.batch([Z]), v.batch([np.ones(3)])), [1 - np.tanh(Z) ** 2]


def _pair(v):
    return {"a": v.array([1.0, 2.0])}, {"a": v.array([3.0, -4.0])}


EXAMPLES |= {
    "layers.dense": Example(_dense),
    "layers.affine": Example(_affine),
    "layers.dropout": Example(_dropout),
    "layers.apply_mask": Example(
        lambda v: (layers.apply_mask(np.array([True, False]), v.array([1.0, 1.0]), 0.5), np.array([2.0, 0.0]))
    ),
    "layers.dot_product_attention": Example(_attention),
    "layers.attention": Example(_attention_layer),
    "layers.conv": Example(lambda v: _convolution(v, layers.conv, [[5.0], [8.0], [3.0]])),
    "layers.conv_transpose": Example(
        lambda v: _convolution(v, layers.conv_transpose, [[1.0], [4.0], [7.0], [6.0]], padding="valid")
    ),
    "layers.max_pool": Example(lambda v: (layers.max_pool(v.batch(RAMP), 2), np.array([[[2.0], [4.0]]]))),
    "layers.average_pool": Example(
        lambda v: (layers.average_pool(v.batch(RAMP), 3, 2, "same"), np.array([[[2.0], [3.5]]]))
    ),
    "layers.global_average_pool": Example(lambda v: (layers.global_average_pool(v.batch(RAMP)), np.array([[2.5]]))),
    "layers.batch_norm": Example(_batch_norm),
    "layers.layer_norm": Example(
        lambda v: _normal(v, layers.layer_norm(3, epsilon=0.5), Z3 / math.sqrt(2 / 3 + 0.5), [[1.0, 2.0, 3.0]])
    ),
    "layers.rms_norm": Example(
        lambda v: _normal(v, layers.rms_norm(3, epsilon=1.0), np.array([[0.5, 1.0, 1.0]]), [[1.0, 2.0, 2.0]])
    ),
    "layers.group_norm": Example(_group_norm),
    "layers.embedding": Example(_embedding),
    "layers.sinusoidal_positions": Example(
        lambda v: (layers.sinusoidal_positions(2, 2), np.array([[0.0, 1.0], [math.sin(1.0), math.cos(1.0)]]))
    ),
    "layers.rotary": Example(
        lambda v: (
            layers.rotary(v.batch([[[[1.0, 0.0]], [[1.0, 0.0]]]])),
            np.array([[[[1.0, 0.0]], [[math.cos(1.0), math.sin(1.0)]]]]),
        )
    ),
    "layers.rnn_cell": Example(lambda v: _cell(v, layers.rnn_cell, 1, np.tanh(1.5))),
    "layers.lstm_cell": Example(
        lambda v: _cell(v, layers.lstm_cell, 4, expit(1.5) * np.tanh(expit(1.5) * np.tanh(1.5)))
    ),
    "layers.gru_cell": Example(lambda v: _cell(v, layers.gru_cell, 3, expit(-1.5) * np.tanh(1.5))),
    "layers.recurrent": Example(lambda v: _over_time(v, layers.recurrent(layers.rnn_cell(1, 1)))),
    "layers.bidirectional": Example(
        lambda v: _over_time(v, layers.bidirectional(layers.rnn_cell(1, 1), layers.rnn_cell(1, 1)))
    ),
    "layers.standardize": Example(
        lambda v: (layers.standardize(v.batch([[1.0, 2.0, 3.0]]), epsilon=0.5), Z3 / math.sqrt(2 / 3 + 0.5))
    ),
    "layers.rms_normalize": Example(
        lambda v: (layers.rms_normalize(v.batch([[1.0, 2.0, 2.0]]), epsilon=1.0), np.array([[0.5, 1.0, 1.0]]))
    ),
    "losses.linear_cross_entropy": Example(_linear_cross_entropy),
    "initializers.normal": Example(
        lambda v: (abs(float(np.std(initializers.normal(v.key(), (200, 100), float, 0.1))) - 0.1) < 3e-3, True)
    ),
    "initializers.get": Example(
        lambda v: (abs(float(np.std(initializers.get("he_normal")(v.key(), (200, 100)))) - 0.1) < 3e-3, True)
    ),
    "models.linear": Example(_linear),
    "models.logistic": Example(_logistic),
    "models.mlp": Example(_mlp),
    "models.autoencoder": Example(_autoencoder),
    "models.vae": Example(_vae),
    "models.gan": Example(_gan),
    "backprop.gradients": Example(_backprop),
    "backprop.output_delta": Example(_output_delta),
    "backprop.through": Example(lambda v: (_through(v)[0], np.asarray(_through(v)[1]))),
    "tree.add": Example(lambda v: (tree.add(*_pair(v)), {"a": np.array([4.0, -2.0])})),
    "tree.subtract": Example(lambda v: (tree.subtract(*_pair(v)), {"a": np.array([-2.0, 6.0])})),
    "tree.add_scaled": Example(lambda v: (_add_scaled(v), {"a": np.array([7.0, -6.0])})),
    "tree.scale": Example(lambda v: (tree.scale(v.number(2.0), _pair(v)[0]), {"a": np.array([2.0, 4.0])})),
    "tree.vdot": Example(lambda v: (tree.vdot(*_pair(v)), -5.0)),
    "tree.norm": Example(lambda v: (tree.norm(_pair(v)[1]), 5.0)),
    "tree.zeros_like": Example(lambda v: (tree.zeros_like(_pair(v)[0]), {"a": np.zeros(2)})),
    "tree.size": Example(lambda v: (tree.size(_pair(v)), 4)),
    "tree.path_names": Example(lambda v: (tree.path_names(_pair(v)), ["0/a", "1/a"])),
    "tree.path_name": Example(
        lambda v: (tree.path_name(jax.tree_util.tree_flatten_with_path(_pair(v))[0][1][0]), "1/a")
    ),
    "tree.map_with_name": Example(
        lambda v: (
            tree.map_with_name(lambda name, x: x if name == "a" else 0 * x, _pair(v)[0]),
            {"a": np.array([1.0, 2.0])},
        )
    ),
}


def _add_scaled(v):
    x, y = _pair(v)
    return tree.add_scaled(x, v.number(2.0), y)
