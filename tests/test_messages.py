"""What a wrong argument is told: options are Literals with one table each, near misses are named, errors are clear."""

import inspect
import re
import typing
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_rooms import PACKAGE, rooms

from functional_dl import (
    activations,
    arguments,
    backprop,
    calculus,
    derivations,
    explain,
    initializers,
    integrals,
    layers,
    losses,
    optimality,
    penalties,
    reverse,
    training,
)
from functional_dl.activations import table as activation_table
from functional_dl.calculus import chain, derivatives, points
from functional_dl.derivations import step as derivation_step
from functional_dl.integrals import expectation, geometry
from functional_dl.layers import windows
from functional_dl.losses import table as loss_table
from functional_dl.models import (
    autoencoder,
    cnn,
    gan,
    linear,
    logistic,
    mlp,
    recurrent,
    resnet,
    transformer,
    vae,
)
from functional_dl.models.cnn import FORMS, POOLS, Form, Pool
from functional_dl.models.gan import LOSSES as GAN_LOSSES
from functional_dl.models.gan import NORMS
from functional_dl.models.gan import Loss as GanLoss
from functional_dl.models.gan import Norm as GanNorm
from functional_dl.models.mlp import per_layer
from functional_dl.models.recurrent import CELLS, Cell
from functional_dl.models.resnet import SHORTCUTS, Shortcut
from functional_dl.models.transformer import KINDS, POSITIONS, Kind, Positions
from functional_dl.models.vae import LIKELIHOODS, Likelihood
from functional_dl.optimality import conjugates, svm
from functional_dl.optimality.least_squares import STEPS, Step
from functional_dl.optimality.solve import METHODS, Method
from functional_dl.optimality.solvers import levenberg_marquardt
from functional_dl.training import evaluation, layout, mixed

KEY = jax.random.key(0)
V = jnp.ones(3)
X = jnp.ones((3, 2))
Y = jnp.array([1.0, -1.0, 1.0])
PARAMS = mlp([2, 3, 1]).init(KEY)
VAE_PARAMS = vae([2, 1]).init(KEY)
GAN_PARAMS = gan(8, latent=1, width=1).init(KEY)
THETA = {"mean": V, "scale": V}


def total(x):
    return jnp.sum(x**2)


# ---- options ------------------------------------------------------------------------------------------------------

# The Literal of an option; a call with another string, that string, and what is suggested instead.
OPTIONS = [
    (points.Side, lambda s: calculus.limit(jnp.sin, 0.0, s), "lft", "left"),
    (points.Side, lambda s: calculus.derivative(jnp.sin, 0.0, side=s), "rigth", "right"),
    (points.Side, lambda s: calculus.taylor(jnp.sin, 0.0, 2, s), "bothh", "both"),
    (derivatives.Method, lambda s: calculus.derivative(jnp.sin, 0.0, s), "richardsn", "richardson"),
    (chain.Order, lambda s: calculus.compose(jnp.sin).product(1.0, s), "revers", "reverse"),
    (Method, lambda s: optimality.solve(optimality.Problem(total), V, s), "interior-point", "interior_point"),
    (levenberg_marquardt.Loss, lambda s: optimality.least_squares(total, V, loss=s), "soft-l1", "soft_l1"),
    (Step, lambda s: optimality.least_squares(total, V, step=s), "lsqr", "lsmr"),
    (svm.KernelName, lambda s: optimality.svm.fit_dual(X, Y, kernel=s), "polynomal", "polynomial"),
    (conjugates.Name, lambda s: optimality.conjugates.conjugate(s), "absolut", "absolute"),
    (expectation.Method, lambda s: integrals.expectation_gradient(total, "gaussian", THETA, KEY, method=s), "scores",
     "score"),
    (expectation.DistributionName, lambda s: integrals.expectation_gradient(total, s, THETA, KEY), "gausian",
     "gaussian"),
    (initializers.Name, lambda s: initializers.get(s), "glorot", "glorot_normal"),
    (initializers.Name, lambda s: layers.dense(2, 3, initializer=s), "he_norml", "he_normal"),
    (initializers.Name, lambda s: linear(2, initializer=s), "zeroes", "zeros"),
    (initializers.Name, lambda s: logistic(2, initializer=s), "ortogonal", "orthogonal"),
    (initializers.Name, lambda s: mlp([2, 3], initializer=s), "lecun_norm", "lecun_normal"),
    (initializers.Name, lambda s: autoencoder([2, 3], initializer=s), "he_unifrm", "he_uniform"),
    (activations.Name, lambda s: autoencoder([2, 3, 1], s), "tnh", "tanh"),
    (initializers.Name, lambda s: vae([2, 3], initializer=s), "lecun_norm", "lecun_normal"),
    (activations.Name, lambda s: vae([2, 3, 1], s), "gelutanh", "gelu_tanh"),
    (Likelihood, lambda s: vae([2, 3], likelihood=s), "gausian", "gaussian"),
    (GanLoss, lambda s: gan(8, loss=s), "wasserstien", "wasserstein"),
    (GanNorm, lambda s: gan(8, norm=s), "layers", "layer"),
    (initializers.Name, lambda s: gan(8, initializer=s), "glorotnormal", "glorot_normal"),
    (Form, lambda s: cnn(8, 1, 2, s), "vgg16", "vgg"),
    (Pool, lambda s: cnn(8, 1, 2, pool=s), "avrage", "average"),
    (windows.PaddingName, lambda s: cnn(8, 1, 2, padding=s), "smae", "same"),
    (activations.Name, lambda s: cnn(8, 1, 2, activation=s), "reluu", "relu"),
    (Shortcut, lambda s: resnet(8, 1, 2, shortcut=s), "projektion", "projection"),
    (Cell, lambda s: recurrent(1, 2, 2, s), "ltsm", "lstm"),
    (Kind, lambda s: transformer(2, 2, 1, 1, 2, s), "encoder-decoder", "encoder_decoder"),
    (Positions, lambda s: transformer(2, 2, 1, 1, 2, positions=s), "rotory", "rotary"),
    (activations.Name, lambda s: transformer(2, 2, 1, 1, 2, activation=s), "gelo", "gelu"),
    (windows.PaddingName, lambda s: layers.conv(1, 1, 3, padding=s), "sames", "same"),
    (windows.PaddingName, lambda s: layers.conv_transpose(1, 1, 3, padding=s), "vallid", "valid"),
    (windows.PaddingName, lambda s: layers.max_pool(X, 1, padding=s), "casual", "causal"),
    (windows.PaddingName, lambda s: layers.average_pool(X, 1, padding=s), "Same", "same"),
    (activations.Name, lambda s: activations.get(s), "rellu", "relu"),
    (activations.Name, lambda s: mlp([2, 3, 1], s), "gelu-tanh", "gelu_tanh"),
    (activations.Name, lambda s: per_layer("relu", s, 2) and mlp([2, 3], output=s), "sigmoidd", "sigmoid"),
    (activations.Name, lambda s: backprop.gradients(PARAMS, X, V[:, None], s, "huber"), "softpls", "softplus"),
    (losses.Name, lambda s: losses.get(s), "hubber", "huber"),
    (losses.Name, lambda s: backprop.gradients(PARAMS, X, V[:, None], loss=s), "bce", "binary_cross_entropy"),
    (loss_table.Domain, lambda s: losses.Loss(total, total, (), "", "", pred=s), "units", "unit"),
    (loss_table.Domain, lambda s: losses.Loss(total, total, (), "", "", target=s), "simplx", "simplex"),
    (layout.PlacementName, lambda s: fit(mesh=jax.make_mesh((1,), ("data",), devices=jax.devices()[:1]), placement=s),
     "replicate", "replicated"),
    (mixed.Precision, lambda s: fit(precision=s), "bfloat", "bfloat16"),
    (mixed.Precision, lambda s: training.sweep(total, lambda k: V, V, optax.sgd, V, jax.random.split(KEY), steps=1,
                                               batch_size=1, precision=s), "float61", "float16"),
    (evaluation.Mode, lambda s: training.EarlyStopping("a", s), "mn", "min"),
    (derivation_step.Kind, lambda s: derivations.Step("", "", total, kind=s), "equals", "equal"),
    (derivation_step.Line, lambda s: derivations.Oracle("", total, line=s), "frst", "first"),
]  # fmt: skip


def listed(message: str) -> set[str]:
    return set(re.search(r"expected one of ([^;]*);", message)[1].split(", "))


@pytest.mark.parametrize(("options", "call", "wrong", "meant"), OPTIONS)
def test_a_literal_lists_what_the_code_takes_and_a_near_miss_is_named(options, call, wrong, meant):
    with pytest.raises(ValueError, match=re.escape(f"got {wrong!r}; did you mean ")) as found:
        call(wrong)
    message = str(found.value)
    assert listed(message) == set(typing.get_args(options))
    assert f"{meant!r}" in message.split("did you mean")[1]


# Tables of names -> the Literal that lists them.
TABLES = [
    (calculus.limits.SIDES, points.Side),
    (derivatives.DIRECTIONS, points.Side),
    (METHODS, Method),
    (levenberg_marquardt.LOSSES, levenberg_marquardt.Loss),
    (STEPS, Step),
    (svm.KERNELS, svm.KernelName),
    (conjugates.CONJUGATES, conjugates.Name),
    (expectation.DISTRIBUTIONS, expectation.DistributionName),
    (initializers.INITIALIZERS, initializers.Name),
    (windows.PADDINGS, windows.PaddingName),
    (LIKELIHOODS, Likelihood),
    (GAN_LOSSES, GanLoss),
    (NORMS, GanNorm),
    (FORMS, Form),
    (POOLS, Pool),
    (SHORTCUTS, Shortcut),
    (CELLS, Cell),
    (KINDS, Kind),
    (layout.PLACEMENTS, layout.PlacementName),
    (mixed.PRECISIONS, mixed.Precision),
    (evaluation.MODES, evaluation.Mode),
    (POSITIONS, Positions),
    (activation_table.ACTIVATIONS, activations.Name),
    (loss_table.LOSSES, losses.Name),
    (derivation_step.KINDS, derivation_step.Kind),
    (geometry.LINES, typing.get_args(geometry.Axis)[0]),
]


@pytest.mark.parametrize(("table", "options"), TABLES)
def test_a_table_and_its_literal_agree(table, options):
    assert set(table) == set(typing.get_args(options))


def literals(annotation) -> Iterator:
    """The Literals within an annotation."""
    if typing.get_origin(annotation) is typing.Literal:
        yield annotation
    for part in typing.get_args(annotation):
        yield from literals(part)


def test_every_option_of_a_public_function_is_tried_above():
    tried = {frozenset(typing.get_args(options)) for options, *_ in OPTIONS} | {frozenset(geometry.LINES)}
    missing = set()
    for name, room in rooms().items():
        for public in room.__all__:
            value = getattr(room, public)
            if not callable(value) or not str(getattr(value, "__module__", "")).startswith(PACKAGE):
                continue
            if isinstance(value, type) and issubclass(value, Exception):
                continue
            for parameter in inspect.signature(value).parameters.values():
                for found in literals(parameter.annotation):
                    strings = {option for option in typing.get_args(found) if isinstance(option, str)}
                    if strings and frozenset(strings) not in tried:
                        missing.add(f"{name}.{public}({parameter.name})")
    assert not missing


# Names that are looked up outside of a Literal.
LOOKUPS: list[tuple[Callable, type[Exception], str]] = [
    (lambda: derivations.get("softmax_crossentropy"), KeyError, "did you mean 'softmax_cross_entropy'"),
    (lambda: derivations.get("sce"), KeyError, "'softmax_cross_entropy'"),
    (lambda: derivations.get(3), KeyError, r"name: expected one of \d+ names; got 3 \(int\)"),
    (lambda: calculus.partial(lambda alpha, beta: alpha * beta, (1.0, 2.0), "alhpa"), KeyError, "did you mean 'alpha'"),
    (lambda: calculus.partial(lambda p: p["rate"], {"rate": 1.0}, "rte"), KeyError, "did you mean 'rate'"),
    (
        lambda: integrals.volume_of_revolution(jnp.sin, 0, 1, axis="z"),
        ValueError,
        "axis: expected .x., .y. or a line such as .y=2., got .z.",
    ),
    (lambda: integrals.surface_of_revolution(jnp.sin, 0, 1, axis=3), TypeError, r"axis: .*got 3 \(int\)"),
    (lambda: losses.get(3), TypeError, r"loss: expected a name or a Loss, got 3 \(int\)"),
    (lambda: initializers.get(3), TypeError, r"initializer: expected one of .*; got 3 \(int\)"),
    (lambda: calculus.limit(jnp.sin, 0.0, None), TypeError, r"side: .*; got None \(NoneType\)"),
    (lambda: optimality.solve(optimality.Problem(total), V, ["sqp"]), TypeError, r"method: .*; got \['sqp'\] \(list\)"),
    (lambda: integrals.expectation_gradient(total, 3, THETA, KEY), TypeError, r"distribution: .*; got 3 \(int\)"),
    (lambda: optimality.svm.fit_dual(X, Y, kernel=3), TypeError, r"kernel: .*; got 3 \(int\)"),
    (lambda: mlp([2, 3], 3), TypeError, r"activation: expected a name.*got 3 \(int\)"),
]


@pytest.mark.parametrize(("call", "error", "message"), LOOKUPS)
def test_a_name_that_is_looked_up(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_nothing_is_suggested_where_nothing_is_near():
    assert arguments.nearest("xyzzy", ["relu", "tanh"]) == []
    assert "did you mean" not in arguments.unknown("name", "xyzzy", ["relu", "tanh"])
    assert arguments.nearest("cross", ["softmax_cross_entropy", "huber"]) == ["softmax_cross_entropy"]


# ---- errors -------------------------------------------------------------------------------------------------------


def fit(**changes):
    given = {"loss": lambda p, batch: total(p), "params": V, "data": X, "optimizer": optax.sgd(0.1), "steps": 1,
             "batch_size": None, "key": KEY, "progress": False} | changes  # fmt: skip
    return training.fit(given.pop("loss"), given.pop("params"), given.pop("data"), given.pop("optimizer"), **given)


NO_KEY = "key: expected one PRNG key such as jax.random.key"
KEYS = [
    lambda key: layers.dense(2, 3).init(key),
    lambda key: layers.dense(2, 3, initializer="zeros").init(key),
    lambda key: layers.dropout(key, X, 0.5),
    lambda key: linear(2).init(key),
    lambda key: logistic(2).init(key),
    lambda key: mlp([2, 3]).init(key),
    lambda key: mlp([2, 3, 1], dropout_rate=0.5).apply(PARAMS, X, key=key),
    lambda key: fit(key=key),
    lambda key: training.start(V, optax.sgd(0.1), key, 3, 3),
    lambda key: integrals.expectation_gradient(total, "gaussian", THETA, key, samples=3),
    lambda key: integrals.smooth_grad(total, V, key, noise=0.1, samples=2),
    lambda key: optimality.is_convex(total, lambda key: jax.random.normal(key, (3,)), key, points=2, chords=2),
    lambda key: optimality.qp_layer.layer(2).init(key),
    lambda key: cnn(2, 1, 1, stages=[[1]]).init(key),
    lambda key: resnet(4, 1, 1, widths=[1], axes=1).init(key),
    lambda key: recurrent(1, 1, 1).init(key),
    lambda key: transformer(2, 2, 1, 1, 2).init(key),
    lambda key: derivations.get("softmax").verify(key, points=1),
    lambda key: autoencoder([2, 1]).init(key),
    lambda key: vae([2, 1]).loss(VAE_PARAMS, X, key=key),
    lambda key: vae([2, 1]).sample(VAE_PARAMS, key),
    lambda key: gan(8, width=1).init(key),
    lambda key: gan(8, latent=1, width=1).generate(GAN_PARAMS, key),
]


@pytest.mark.parametrize("call", KEYS)
def test_an_integer_is_no_key(call):
    for wrong, came in ((0, r"got 0 \(int\)"), (jnp.zeros(2), "got float.* of shape"), ("seed", "got 'seed'")):
        with pytest.raises(TypeError, match=rf"{NO_KEY}\(0\), {came}"):
            call(wrong)
    with pytest.raises(TypeError, match=NO_KEY):
        call(jax.random.split(KEY, 3))


@pytest.mark.parametrize("call", [KEYS[0], KEYS[2], KEYS[5], KEYS[6], KEYS[8], KEYS[9], KEYS[10], KEYS[12]])
def test_keys_of_both_styles_are_keys(call):
    for key in (KEY, jax.random.PRNGKey(0), np.array([0, 7], np.uint32)):
        call(key)
    jax.jit(lambda key: jax.tree_util.tree_leaves(call(key)))(KEY)


REAL, NUMBERS, FLOATS = "expected one real number", "expected an array of numbers", "expected floating numbers"
ERRORS: list[tuple[Callable, type[Exception], str]] = [
    # a non-scalar where a scalar is due
    (lambda: layers.dropout(KEY, X, jnp.ones(2)), ValueError, r"rate: expected one number, got shape \(2,\)"),
    (lambda: layers.dropout(KEY, X, "half"), TypeError, f"rate: {REAL}, got 'half'"),
    (lambda: layers.dropout(KEY, X, None), TypeError, f"rate: {REAL}, got None"),
    (lambda: layers.apply_mask(X > 0, X, V), ValueError, "rate: expected one number"),
    (lambda: penalties.elastic_net(V, V), ValueError, "l1_ratio: expected one number"),
    (lambda: penalties.elastic_net(V, "half"), TypeError, f"l1_ratio: {REAL}"),
    (lambda: penalties.prox_l1(V, "x"), TypeError, f"step: {REAL}, got 'x'"),
    (lambda: penalties.prox_l2(V, None), TypeError, f"step: {REAL}, got None"),
    (lambda: losses.huber(V, V, V), ValueError, "delta: expected one number"),
    (lambda: losses.huber(1.0, 2.0, "a"), TypeError, f"delta: {REAL}"),
    (lambda: losses.quantile(V, V, V), ValueError, "level: expected one number"),
    (lambda: losses.focal(V, V, V), ValueError, "gamma: expected one number"),
    (lambda: losses.focal(V, V, alpha=V), ValueError, "alpha: expected one number"),
    (lambda: losses.gaussian_nll(V, V, "a"), TypeError, "variance: expected real numbers, got 'a'"),
    (lambda: activations.elu(V, "a"), TypeError, f"alpha: {REAL}"),
    (lambda: activations.celu(V, V), ValueError, "alpha: expected one number"),
    (lambda: activations.leaky_relu(V, "a"), TypeError, f"negative_slope: {REAL}"),
    (lambda: training.gradient_descent(total, V, "a", 3), TypeError, f"learning_rate: {REAL}"),
    (lambda: training.gradient_descent(total, V, None, 3), TypeError, f"learning_rate: {REAL}"),
    (lambda: training.gradient_descent(lambda w: w, V, 0.1, 3), TypeError, "loss: expected a function to one real"),
    (lambda: fit(loss=lambda p, b: {"a": total(p)}), TypeError, "loss: expected a function to one real"),
    (lambda: optimality.solve(optimality.Problem(total), V, tolerance="a"), TypeError, "tolerance: expected real"),
    (lambda: calculus.power_rule(jnp.sin, "a", 1.0), TypeError, f"n: {REAL}"),
    # a leaf that is no array
    (lambda: penalties.l2({"a": "x"}), TypeError, rf"params\[a\]: {NUMBERS}, got 'x' \(str\)"),
    (lambda: penalties.l2({"a": "f4"}), TypeError, rf"params\[a\]: {NUMBERS}, got 'f4' \(str\)"),
    (lambda: penalties.l1("hello"), TypeError, f"params: {NUMBERS}"),
    (lambda: penalties.prox_l2([1.0, object()], 0.1), TypeError, rf"params\[1\]: {NUMBERS}"),
    (lambda: penalties.l1({"n": jnp.arange(3)}), TypeError, rf"params\[n\]: {FLOATS}, got int64 of shape"),
    (lambda: penalties.l2(V, select="a"), TypeError, "select: expected a function"),
    (lambda: fit(params={"a": "x"}), TypeError, rf"params\[a\]: {NUMBERS}"),
    (lambda: fit(data="abc"), TypeError, f"data: {NUMBERS}"),
    (lambda: fit(data=np.array(["a", "b"])), TypeError, f"data: {NUMBERS}, got <U1 of shape"),
    (lambda: training.gradient_descent(total, "x", 0.1, 3), TypeError, f"params: {NUMBERS}"),
    (lambda: optimality.solve(optimality.Problem(total), "a"), TypeError, f"x: {NUMBERS}"),
    (lambda: optimality.solve(optimality.Problem(total), jnp.arange(3)), TypeError, f"x: {FLOATS}"),
    (lambda: integrals.smooth_grad(total, {"a": "x"}, KEY, noise=0.1), TypeError, rf"x\[a\]: {NUMBERS}"),
    (lambda: integrals.leibniz(lambda x, t: x, 0.0, 1.0, "a"), TypeError, f"theta: {NUMBERS}"),
    (lambda: losses.squared_error({"a": 1.0}, 1.0), TypeError, f"pred: {NUMBERS}, got"),
    (lambda: losses.squared_error(None, 1.0), TypeError, f"pred: {NUMBERS}, got None"),
    (lambda: losses.squared_error([1.0, None], [1.0, 2.0]), TypeError, f"pred: {NUMBERS}, got .*list"),
    (lambda: losses.squared_error(V, [[1.0], [1.0, 2.0]]), TypeError, f"target: {NUMBERS}"),
    (lambda: losses.squared_error(KEY, 1.0), TypeError, "pred: expected real numbers, got dtype key"),
    (lambda: losses.hinge("a", V), TypeError, f"pred: {NUMBERS}"),
    (lambda: activations.relu("a"), TypeError, f"z: {NUMBERS}, got 'a'"),
    (lambda: activations.tanh(None), TypeError, f"z: {NUMBERS}, got None"),
    # values outside the domain
    (lambda: losses.binary_cross_entropy(1.2, 1.0), ValueError, r"probs: expected values in \[0, 1\], got 1.2"),
    (lambda: losses.binary_cross_entropy(0.5, 1.5), ValueError, r"targets: expected values in \[0, 1\], got 1.5"),
    (lambda: losses.binary_cross_entropy_prime(-0.1, 1.0), ValueError, r"probs: expected values in \[0, 1\]"),
    (lambda: losses.cross_entropy(jnp.array([1.2, -0.2]), jnp.eye(2)[0]), ValueError, r"probs: .*\[0, inf\), got -0.2"),
    (lambda: losses.kl_divergence(jnp.array([1.2, -0.2]), jnp.eye(2)[0]), ValueError, "probs: expected values in"),
    (lambda: losses.poisson(-1.0, 1.0), ValueError, r"rate: expected values in \[0, inf\), got -1"),
    (lambda: losses.poisson(1.0, -1.0), ValueError, "count: expected values in"),
    (lambda: losses.log_poisson(1.0, -1.0), ValueError, "count: expected values in"),
    (lambda: losses.log_poisson_prime(1.0, -1.0), ValueError, "count: expected values in"),
    (
        lambda: losses.softmax_cross_entropy(X, jnp.array([0, 1, 2])),
        ValueError,
        r"targets: .* labels in \[0, 2\), got 2",
    ),
    # parameters of another form
    (lambda: layers.affine(X, X), TypeError, "params: expected a dictionary with the entry 'weight', got float"),
    (lambda: layers.affine({"w": X}, X), ValueError, "params: expected an entry 'weight', got 'w'"),
    (lambda: layers.affine({"weight": "x"}, X), TypeError, rf"params\['weight'\]: {NUMBERS}"),
    (lambda: layers.dense(2, 3, dtype=int).init(KEY), TypeError, "dtype: expected a floating dtype, got int"),
    (lambda: layers.dense(2, 3, dtype="flt").init(KEY), TypeError, "dtype: expected a floating dtype, got 'flt'"),
    (lambda: layers.apply_mask("m", X, 0.5), TypeError, f"mask: {NUMBERS}"),
    (lambda: mlp(3), TypeError, r"sizes: expected a sequence of widths, got 3 \(int\)"),
    (lambda: mlp([2, 3]).apply({"a": X}, X), ValueError, "params: expected an entry 'layers', got 'a'"),
    (lambda: backprop.gradients(X, X, X), TypeError, "params: expected a dictionary with the entry 'layers'"),
    # functions
    (lambda: calculus.limit(3, 0.0), TypeError, r"f: expected a function, got 3 \(int\)"),
    (lambda: calculus.taylor(3, 0.0, 2), TypeError, "f: expected a function"),
    (lambda: calculus.divergence(3, V), TypeError, "f: expected a function"),
    (lambda: calculus.curl(3, V), TypeError, "f: expected a function"),
    (lambda: calculus.sum_rule(3, jnp.sin, 1.0), TypeError, "f, g: expected a function"),
    (lambda: calculus.total_derivative(3, (jnp.sin,), 1.0), TypeError, "f: expected a function"),
    (lambda: calculus.total_derivative(jnp.sin, jnp.sin, 1.0), TypeError, "inner: expected a sequence of functions"),
    (lambda: calculus.total_derivative(jnp.sin, (3,), 1.0), TypeError, r"inner\[0\]: expected a function"),
    (lambda: training.proximal(3), TypeError, "prox: expected a function"),
    (lambda: training.make_step(3, optax.sgd(0.1), 3), TypeError, "loss: expected a function"),
    (lambda: gan(8, differentiate=3), TypeError, "differentiate: expected a function, got 3"),
    (lambda: reverse.checkpointed_scan(3, V, None, 3, slots=2), TypeError, "f: expected a function"),
    (lambda: optimality.solve(total, V), TypeError, "problem: expected a Problem, got <function"),
    (lambda: optimality.lagrangian(total), TypeError, "problem: expected a Problem"),
    (lambda: optimality.slater_point(total, V), TypeError, "problem: expected a Problem"),
    (lambda: optimality.dual_function(total, V), TypeError, "problem: expected a Problem"),
    (lambda: optimality.kkt_residuals(total, V, None, None), TypeError, "problem: expected a Problem"),
    (lambda: optimality.solution_map(3, V), TypeError, "problem_of_theta: expected a function"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_a_wrong_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_values_are_not_looked_at_under_jit():
    """Where JAX traces, numbers are not known: nothing is refused, and what is outside a domain gives NaN."""
    assert np.isnan(jax.jit(losses.binary_cross_entropy)(1.2, 1.0))
    assert np.isnan(jax.jit(losses.poisson)(-1.0, 1.0))
    assert jax.jit(losses.huber)(3.0, 1.0, 1.0) == 1.5
    assert jax.vmap(lambda rate: layers.dropout(KEY, V, rate))(jnp.array([0.1, 0.5])).shape == (2, 3)
    np.testing.assert_array_equal(jax.vmap(penalties.prox_l1, (None, 0))(V, jnp.array([0.5])), [[0.5, 0.5, 0.5]])


def test_a_python_float_is_compared_in_its_own_digits():
    with jax.enable_x64(False):
        layers.dropout(KEY, jnp.ones(2), 1 - 1e-9)  # rounded to float32 it would be 1, which is refused


# ---- what is printed ----------------------------------------------------------------------------------------------


def test_reprs_are_short():
    explained = explain.explain(total, V)
    network = mlp([64, 128, 10]).init(KEY)
    shown = {
        "compose(exp, sin)": calculus.compose(jnp.exp, jnp.sin),
        "more": calculus.compose(*[jnp.sin] * 40),
        "RULES": reverse.RULES,
        "Pullback of total: (float64[]) -> (float64[1000])": reverse.vjp(total, jnp.ones(1000))[1],
        "Fit(2 steps, loss 0.12 -> 0.0768, params: 1 arrays of 3 numbers)": fit(
            loss=lambda p, batch: total(p), params=V / 5, steps=2, optimizer=optax.sgd(0.1)
        ),
        "Fit(": fit(loss=lambda p, batch: penalties.l2(p), params=network, steps=3),
        "Explanation(total: 1 inputs": explained,
        "Graph(total: ": explained.graph,
        "Ledger(": explained.ledger,
        "Derivation('softmax': ": derivations.get("softmax"),
        "Loss(huber: ": losses.LOSSES["huber"],
        "Activation(relu: max(z, 0))": activations.ACTIVATIONS["relu"],
        "SVM(linear kernel, examples of shape (3, 2)": optimality.svm.fit_dual(X * jnp.arange(3.0)[:, None], Y, 1.0),
    }
    for expected, value in shown.items():
        text = repr(value)
        assert expected in text
        assert len(text) <= 240
        assert text.count("\n") <= 2
