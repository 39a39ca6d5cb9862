"""checkpointed_scan: lax.scan's values and gradients, as few extra steps as can be, memory that does not grow."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import reverse
from functional_dl.reverse.checkpointed import schedule

extra_steps = reverse.checkpointed_scan.extra_steps


@functools.cache
def fewest(length, slots):
    """The least number of steps forward in the backward pass (the first descent included), by dynamic programming."""
    if length == 1:
        return 0
    if slots == 1:
        return length * (length - 1) // 2
    return min(m + fewest(length - m, slots - 1) + fewest(m, slots) for m in range(1, length))


@pytest.mark.parametrize("slots", range(1, 9))
def test_schedule_is_the_best_there_is(slots):
    for length in range(1, 70):
        moves = schedule(length, slots)
        forward = sum(steps for _, _, steps, _ in moves)
        assert forward == fewest(length, slots)
        assert forward - (length - 1) == extra_steps(length, slots)
        assert [place for _, place, steps, _ in moves if steps == 0] == list(reversed(range(length)))


def test_schedule_keeps_to_its_slots_and_its_states():
    for length, slots in ((1, 1), (7, 1), (20, 2), (50, 4), (10, 30)):
        held = {0: 0}  # slot -> the step whose state it holds
        for source, place, steps, target in schedule(length, slots):
            assert held[source] == place
            assert target <= slots
            if steps:
                held[target] = place + steps
        assert extra_steps(10, 30) == 0


def _scan_loss(scan, weight, start, xs):
    def step(carry, x):
        n, state = carry
        state = jnp.tanh(state @ weight + x * n)
        return (n + 1, state), {"y": state * x, "n": n}

    (_, state), ys = scan(step, (np.int32(1), start), xs)
    return jnp.sum(state**2) + jnp.sum(jnp.sin(ys["y"]))


@pytest.mark.parametrize(("length", "slots"), [(1, 1), (2, 1), (5, 1), (5, 2), (9, 3), (17, 3), (12, 20)])
@pytest.mark.sampled(3)
def test_gradients_are_those_of_scan(length, slots):
    rng = np.random.default_rng(0)
    args = rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=(length, 3))
    args = tuple(map(jnp.asarray, args))
    ours = functools.partial(_scan_loss, functools.partial(reverse.checkpointed_scan, slots=slots))
    pairs = ((jax.grad, functools.partial(_scan_loss, lax.scan)), (reverse.grad, ours), (jax.grad, ours))
    with jax.numpy_dtype_promotion("standard"):
        reference, *found = jax.jit(lambda *args: [grad(loss, (0, 1, 2))(*args) for grad, loss in pairs])(*args)
    for gradient in found:
        chex.assert_trees_all_close(gradient, reference, rtol=1e-12, atol=1e-14)


def test_outside_jit_and_twice():
    def loss(scan, x):
        return scan(lambda c, _: (jnp.sin(c) * x, None), x, None, 6)[0]

    ours = functools.partial(loss, functools.partial(reverse.checkpointed_scan, slots=2))
    reference = functools.partial(loss, lax.scan)
    x = jnp.float64(0.8)
    np.testing.assert_allclose(ours(x), reference(x), rtol=1e-15)

    def derivatives(x):
        for d, fun in ((reverse, ours), (jax, reference)):
            yield d.grad(fun)(x), d.grad(d.grad(fun))(x), jax.vmap(d.grad(fun))(jnp.stack([x, x - 0.5]))

    (first, twice, mapped), (of_scan, twice_of_scan, mapped_scan) = jax.jit(lambda x: list(derivatives(x)))(x)
    np.testing.assert_allclose(reverse.grad(ours)(x), of_scan, rtol=1e-13)
    np.testing.assert_allclose(first, of_scan, rtol=1e-13)
    np.testing.assert_allclose(reverse.grad(reverse.grad(ours))(x), twice_of_scan, rtol=1e-12)
    np.testing.assert_allclose(twice, twice_of_scan, rtol=1e-12)
    np.testing.assert_allclose(mapped, mapped_scan, rtol=1e-12)


def test_memory_does_not_grow_with_the_length():
    def loss(scan, length, x):
        return jnp.sum(scan(lambda c, _: (jnp.sin(c), None), x, None, length)[0])

    def temporary(scan, length):
        x = jnp.zeros(1000)
        return (
            jax.jit(reverse.grad(functools.partial(loss, scan, length)))
            .lower(x)
            .compile()
            .memory_analysis()
            .temp_size_in_bytes
        )

    few = functools.partial(reverse.checkpointed_scan, slots=6)
    assert temporary(few, 400) <= 1.3 * temporary(few, 100)
    assert temporary(lax.scan, 400) >= 3 * temporary(lax.scan, 100)
    assert temporary(few, 400) <= 0.1 * temporary(lax.scan, 400)


def test_memory_is_one_state_a_slot():
    """Beside the stack, a few states: no copy of it, on the way forward or back."""
    size = 500

    def loss(slots, weight, x):
        scan = functools.partial(reverse.checkpointed_scan, slots=slots)
        return jnp.sum(scan(lambda c, _: (jnp.sin(weight * c), None), x, None, 100)[0])

    for slots in (4, 16, 64):
        gradient = jax.jit(reverse.value_and_grad(functools.partial(loss, slots), (0, 1)))
        compiled = gradient.lower(jnp.zeros(size), jnp.zeros(size)).compile()
        states = compiled.memory_analysis().temp_size_in_bytes / (8 * size)
        assert states <= 1.02 * slots + 6, (slots, states)


def test_length_zero_is_scan():
    carry, ys = reverse.checkpointed_scan(lambda c, x: (c + x, c), 1.0, jnp.zeros(0), slots=2)
    assert carry == 1.0
    assert ys.shape == (0,)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"slots": 0}, ValueError, "slots: expected an integer of at least 1, got 0"),
        ({"slots": 2, "length": 4}, ValueError, "one length"),
        ({"slots": 1.5}, TypeError, "slots: expected an integer, got 1.5"),
    ],
)
def test_bad_input(options, kind, words):
    with pytest.raises(kind, match=words):
        reverse.checkpointed_scan(lambda c, x: (c, x), 1.0, jnp.zeros(3), **options)
    with pytest.raises(ValueError, match="length"):
        extra_steps(0, 3)
