"""Programs of other libraries differentiate unchanged: Flax, Equinox, Haiku, optax, lineax, optimistix, quadax.

Skipped where a library is not installed.  Each loss has normalisation, dropout or recurrence, so that state, keys and
custom derivatives pass through the sweep too.
"""

import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import reverse

# the libraries promote dtypes, and warn of what they will drop
pytestmark = [pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


X = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype(np.float32)
LABELS = np.arange(6) % 4


def assert_same_gradient(loss, params, **options):
    (value, ours), (reference_value, reference) = jax.jit(
        lambda params: [d.value_and_grad(loss, **options)(params) for d in (reverse, jax)]
    )(params)
    chex.assert_trees_all_equal_dtypes(ours, reference)
    leaves = jax.tree.leaves(reference)
    assert len(leaves) >= 4
    assert any(np.abs(leaf).max() > 1e-3 for leaf in leaves)
    np.testing.assert_allclose(jax.tree.leaves(value)[0], jax.tree.leaves(reference_value)[0], rtol=1e-6)
    chex.assert_trees_all_close(ours, reference, rtol=1e-4, atol=1e-6)


def test_flax_linen():
    nn = pytest.importorskip("flax.linen")
    import optax

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(5, (3, 3))(x)))
            x = nn.avg_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1, 5)
            x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(num_heads=1)(x))
            x = nn.Dropout(0.3, deterministic=not train)(nn.gelu(x)).mean(1)
            return nn.Dense(4)(x)

    network = Network()
    variables = network.init(jax.random.key(0), X, False)

    def loss(params):
        logits, changed = network.apply(
            {**variables, "params": params}, X, True, rngs={"dropout": jax.random.key(1)}, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean(), changed

    assert_same_gradient(loss, variables["params"], has_aux=True)


def test_flax_nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 5, (3, 3), rngs=rngs)
            self.norm = nnx.LayerNorm(5, rngs=rngs)
            self.head = nnx.Linear(5, 4, rngs=rngs)

        def __call__(self, x):
            return self.head(nnx.silu(self.norm(self.conv(x))).mean((1, 2)))

    graph, params = nnx.split(Network(nnx.Rngs(0)))

    def loss(params):
        logits = nnx.merge(graph, params)(X)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(6), LABELS])

    assert_same_gradient(loss, params)


def test_equinox():
    eqx = pytest.importorskip("equinox")
    keys = jax.random.split(jax.random.key(0), 3)
    network = {
        "cell": eqx.nn.GRUCell(24, 7, key=keys[0]),
        "mlp": eqx.nn.MLP(7, 4, 9, 2, activation=jax.nn.softplus, key=keys[1]),
        "norm": eqx.nn.RMSNorm(7),
    }
    params, static = eqx.partition(network, eqx.is_inexact_array)

    def loss(params):
        model = eqx.combine(params, static)

        def one(image, label):
            state, _ = jax.lax.scan(
                lambda s, row: (model["cell"](row.reshape(-1), s), None), jnp.zeros(7), image.astype(jnp.float64)
            )
            return -jax.nn.log_softmax(model["mlp"](model["norm"](state)))[label]

        return jnp.mean(jax.vmap(one)(X, LABELS))

    assert_same_gradient(loss, params)


def test_equinox_filtered_jit():
    eqx = pytest.importorskip("equinox")
    layer = eqx.nn.Linear(3, 4, key=jax.random.key(0))

    @eqx.filter_jit
    def loss(layer):
        return jnp.sum(jnp.tanh(jax.vmap(layer)(X[0, 0])) ** 2)

    ours, reference = (eqx.filter_jit(grad(loss))(layer) for grad in (reverse.grad, jax.grad))
    np.testing.assert_allclose(ours.weight, reference.weight, rtol=1e-6)
    np.testing.assert_allclose(ours.bias, reference.bias, rtol=1e-6)


def test_haiku():
    hk = pytest.importorskip("haiku")

    def network(x):
        x = hk.BatchNorm(True, True, 0.9)(hk.Conv2D(4, 3)(x), is_training=True)
        x = jax.nn.elu(x).reshape(6, 8, -1).swapaxes(0, 1)
        core = hk.LSTM(5)
        outs, _ = hk.dynamic_unroll(core, x, core.initial_state(6))
        outs = hk.dropout(hk.next_rng_key(), 0.2, outs[-1])
        return hk.nets.MLP([6, 4])(outs)

    transformed = hk.transform_with_state(network)
    params, state = transformed.init(jax.random.key(0), X)

    def loss(params):
        logits, _ = transformed.apply(params, state, jax.random.key(1), X)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(6), LABELS])

    assert_same_gradient(loss, params)


def test_optax_losses_and_a_step():
    import optax

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
    params = {"w": jnp.asarray(X[0, 0]), "b": jnp.zeros(8)}

    def loss(params):
        logits = params["w"].T @ params["w"] + params["b"][:3]
        return (
            optax.sigmoid_binary_cross_entropy(logits, jnp.eye(3)).mean()
            + optax.losses.huber_loss(logits, jnp.eye(3)).sum()
            + optax.losses.ctc_loss(
                jnp.tile(logits[None], (2, 1, 1)), jnp.zeros((2, 3)), jnp.ones((2, 1), int), jnp.zeros((2, 1))
            ).mean()
        )

    def step(params, gradient):
        updates, _ = optimizer.update(gradient(loss)(params), optimizer.init(params), params)
        return optax.apply_updates(params, updates)

    ours, expected = jax.jit(lambda params: [step(params, grad) for grad in (reverse.grad, jax.grad)])(params)
    chex.assert_trees_all_close(ours, expected, rtol=1e-5, atol=1e-7)


def test_unrolled_optimisation_is_differentiated():
    """A gradient through ten steps of Adam: reverse over reverse, through optax."""
    import optax

    target = jnp.asarray([1.0, -2.0, 0.5])

    def after(rate, differentiate):
        optimizer = optax.adam(rate)

        def step(state, _):
            x, inner = state
            updates, inner = optimizer.update(differentiate(lambda x: jnp.sum((x - target) ** 4))(x), inner, x)
            return (optax.apply_updates(x, updates), inner), None

        start = jnp.zeros(3)
        (x, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=10)
        return jnp.sum((x - target) ** 2)

    ours, reference = jax.jit(
        lambda rate: [grad(lambda rate: after(rate, grad))(rate) for grad in (reverse.grad, jax.grad)]
    )(0.1)
    np.testing.assert_allclose(ours, reference, rtol=1e-9)
    assert abs(reference) > 1e-3


# --- solvers, loops, integrals: in float64, equal to 1e-12 ------------------------------------------------------------

RNG = np.random.default_rng(1)
SQUARE, TALL = RNG.normal(size=(4, 4)) + 4 * np.eye(4), RNG.normal(size=(6, 4))
B4, B6 = RNG.normal(size=4), RNG.normal(size=6)


def solved(solver, matrix=lambda a: a, tag=()):
    """|x|^2 of A x = b, or of its solution in the sense of least squares."""

    def loss(lineax, a, b):
        operator = lineax.MatrixLinearOperator(matrix(a), getattr(lineax, tag) if tag else ())
        return jnp.sum(jnp.abs(lineax.linear_solve(operator, b, solver(lineax)).value) ** 2)

    return "lineax", loss


def definite(a):
    return a @ a.T + jnp.eye(4)


def of_a_function(lineax, a, b):
    operator = lineax.FunctionLinearOperator(lambda x: jnp.sin(a) @ (a @ x) + x, jax.ShapeDtypeStruct((4,), b.dtype))
    return jnp.sum(lineax.linear_solve(operator, b).value ** 2)


def of_a_jacobian(lineax, a, b):
    operator = lineax.JacobianLinearOperator(lambda x, _: jnp.tanh(a @ x) + 5 * x, b)
    return jnp.sum(lineax.linear_solve(operator, b).value ** 2)


def equation(y, args):
    a, b = args
    return a @ y + 0.1 * jnp.sin(y) - b


def root(solver, **options):
    def loss(optimistix, a, b):
        options_here = {name: getattr(optimistix, value)() for name, value in options.items()}
        solution = optimistix.root_find(equation, solver(optimistix), jnp.zeros(4), (a, b), **options_here)
        return jnp.sum(solution.value**2)

    return "optimistix", loss


def least_squares(optimistix, a, b):
    def residual(y, a):
        return {"fit": a @ y - b, "size": 0.1 * jnp.sin(y)}

    solver = optimistix.LevenbergMarquardt(1e-12, 1e-12)
    return jnp.sum(optimistix.least_squares(residual, solver, jnp.ones(4), a).value ** 2)


def minimum(optimistix, a, b):
    def objective(y, a):
        return jnp.sum((a @ y - b) ** 2) + jnp.sum(y**4)

    return jnp.sum(optimistix.minimise(objective, optimistix.BFGS(1e-12, 1e-12), jnp.ones(4), a).value ** 2)


def fixed_point(optimistix, a, b):
    solver = optimistix.FixedPointIteration(1e-13, 1e-13)
    return jnp.sum(optimistix.fixed_point(lambda y, a: 0.05 * jnp.sin(a @ y) + b, solver, jnp.zeros(4), a).value ** 2)


def loop(kind):
    def loss(equinox, a, b):
        def body(state):
            i, x, seen = state
            x = jnp.tanh(a @ x) + b
            return i + 1, x, seen.at[i].set(x)

        state = (0, b, jnp.zeros((8, 4)))
        options = {"buffers": lambda state: state[2]} if kind == "checkpointed" else {}
        final = equinox.internal.while_loop(lambda s: s[0] < 5, body, state, max_steps=8, kind=kind, **options)
        return jnp.sum(final[1] ** 2) + jnp.sum(final[2] ** 3)

    return "equinox.internal", loss


def custom_rules(equinox, a, b):
    @equinox.filter_custom_vjp
    def stretched(x, power):
        return x**power

    stretched.def_fwd(lambda perturbed, x, power: (x**power, x))
    stretched.def_bwd(lambda kept, ct, perturbed, x, power: 5 * power * ct * kept ** (power - 1))

    @equinox.filter_custom_jvp
    def sine(x):
        return jnp.sin(x)

    sine.def_jvp(lambda primals, tangents: (jnp.sin(primals[0]), 3 * jnp.cos(primals[0]) * tangents[0]))
    return jnp.sum(stretched(equinox.filter_checkpoint(lambda a, b: sine(a @ b))(a, b), 2))


def behind_a_call(equinox, a, b):
    return jnp.sum(equinox.internal.noinline(lambda a, b: jnp.tanh(a @ b))(a, b) ** 2)


def integrand(t, a, b):
    return jnp.exp(-t * t) * jnp.cos(a[0, 0] * t) + t * jnp.sum(jnp.sin(a) * b)


def quadrature(rule, **options):
    def loss(quadax, a, b):
        return getattr(quadax, rule)(integrand, jnp.stack([0.0, 1.0 + b[0] ** 2]), (a, b), **options)[0]

    return "quadax", loss


def samples(quadax, a, b):
    t = jnp.linspace(0.0, 1.0, 9)
    return quadax.simpson(jax.vmap(lambda t: integrand(t, a, b))(t), x=t)


def descent(optimizer):
    """A loss after steps of an optimiser, as a function of where it started."""

    def loss(optax, a, b):
        steps = getattr(optax, optimizer)(0.05)

        def step(state, _):
            x, inner = state
            updates, inner = steps.update(jax.grad(lambda x: optax.losses.log_cosh(a @ x, b).sum())(x), inner, x)
            return (optax.apply_updates(x, updates), inner), None

        (x, _), _ = jax.lax.scan(step, (b, steps.init(b)), length=4)
        return jnp.sum(optax.losses.huber_loss(a @ x))

    return "optax", loss


PROGRAMS = {
    "lineax, LU": solved(lambda lx: lx.AutoLinearSolver(well_posed=True)),
    "lineax, QR of a tall matrix": (*solved(lambda lx: lx.QR()), TALL, B6),
    "lineax, SVD of a wide matrix": (*solved(lambda lx: lx.SVD()), TALL.T, B4),
    "lineax, SVD, complex": (*solved(lambda lx: lx.SVD()), TALL[:, :3] + 1j * TALL[::-1, 1:], B6 + 0.3j * B6**2),
    "lineax, Cholesky": solved(lambda lx: lx.Cholesky(), definite, "positive_semidefinite_tag"),
    "lineax, conjugate gradients": solved(lambda lx: lx.CG(1e-14, 1e-14), definite, "positive_semidefinite_tag"),
    "lineax, GMRES": solved(lambda lx: lx.GMRES(1e-13, 1e-13)),
    "lineax, a triangle": solved(lambda lx: lx.Triangular(), jnp.tril, "lower_triangular_tag"),
    "lineax, a function": ("lineax", of_a_function),
    "lineax, a Jacobian": ("lineax", of_a_jacobian),
    "optimistix, Newton's root": root(lambda optx: optx.Newton(1e-12, 1e-12)),
    "optimistix, Newton's steps": root(lambda optx: optx.Newton(1e-9, 1e-9), adjoint="RecursiveCheckpointAdjoint"),
    "optimistix, dogleg": root(lambda optx: optx.Dogleg(1e-10, 1e-10)),
    "optimistix, least squares": ("optimistix", least_squares),
    "optimistix, minimum": ("optimistix", minimum),
    "optimistix, fixed point": ("optimistix", fixed_point),
    "equinox, checkpointed loop": loop("checkpointed"),
    "equinox, bounded loop": loop("bounded"),
    "equinox, custom rules": ("equinox", custom_rules),
    "equinox, a call": ("equinox.internal", behind_a_call),
    "quadax, Romberg": quadrature("romberg", divmax=3, divmin=2),
    "quadax, tanh-sinh": quadrature("rombergts", divmax=6),
    "quadax, Simpson": ("quadax", samples),
    "quadax, adaptive": quadrature("quadgk", order=15, max_ninter=3),
    "optax, Adam": descent("adam"),
    "optax, Lion": descent("lion"),
    "optax, Nesterov": descent("nadam"),
}
BATCHED = {"lineax, LU", "lineax, SVD of a wide matrix", "optimistix, Newton's root", "equinox, checkpointed loop"}
SLOW = {"quadax, adaptive", "quadax, tanh-sinh"}
PATCHED = ["optimistix, minimum", "equinox, checkpointed loop", "lineax, a Jacobian", "optax, Adam"]


def program(name):
    """The loss, with its library bound, and its arguments."""
    package, loss, *args = PROGRAMS[name]
    library = pytest.importorskip(package.split(".")[0])
    if "." in package:
        pytest.importorskip(package)
    return lambda a, b: loss(library, a, b), tuple(map(jnp.asarray, args or (SQUARE, B4)))


def gradients(name, d, loss, args):
    gradient = d.grad(loss, (0, 1))
    if name in BATCHED:
        return gradient(*args), jax.vmap(gradient)(*[jnp.stack([x, 1.1 * x]) for x in args])
    return gradient(*args)


def assert_equal(actual, expected):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-12)
        assert np.any(e)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.campaign if name in SLOW else ()) for name in PROGRAMS]
)
@pytest.mark.sampled(4)
def test_gradient_equals_jax(name):
    loss, args = program(name)
    ours, theirs = jax.jit(lambda *args: [gradients(name, d, loss, args) for d in (reverse, jax)])(*args)
    assert_equal(ours, theirs)


@pytest.mark.parametrize("name", PATCHED)
@pytest.mark.sampled(3)
def test_gradient_equals_jax_where_the_library_uses_ours(name, monkeypatch):
    loss, args = program(name)
    theirs = jax.jit(jax.grad(loss, (0, 1)))(*args)
    calls = []

    def counted(fun):
        return lambda *args, **kwargs: calls.append(fun) or fun(*args, **kwargs)

    for module in (jax, sys.modules["jax._src.api"]):
        for transform in ("vjp", "grad", "value_and_grad", "jacrev"):
            monkeypatch.setattr(module, transform, counted(getattr(reverse, transform)))
    jax.clear_caches()
    assert_equal(jax.jit(jax.grad(loss, (0, 1)))(*args), theirs)
    assert calls


def test_second_derivatives_of_a_solution():
    lineax = pytest.importorskip("lineax")

    def loss(a):
        return jnp.sum(lineax.linear_solve(lineax.MatrixLinearOperator(a), B6, lineax.QR()).value ** 2)

    def of(d):
        return d.grad(lambda a: jnp.sum(jnp.cos(d.grad(loss)(a))))

    assert_equal(*jax.jit(lambda a: [of(reverse)(a), of(jax)(a)])(jnp.asarray(TALL)))
