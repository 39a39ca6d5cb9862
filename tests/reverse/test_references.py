"""Functions that work on mutable references inside: equal to the same functions without, and to jax.vjp."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import reverse

X = jnp.array([0.3, -1.2, 2.0])


def overwritten(x):
    ref = jax.new_ref(jnp.zeros(3))
    ref[...] = jnp.sin(x)
    ref[0] = ref[0] * 2
    return jnp.sum(ref[...] ** 2)


def overwritten_pure(x):
    return jnp.sum((jnp.sin(x) * jnp.array([2.0, 1.0, 1.0])) ** 2)


def accumulated(x):
    ref = jax.new_ref(x)
    for i in range(3):
        jax.ref.addupdate(ref, i, x[i] ** 2 * ref[0])
    return jnp.prod(jax.ref.freeze(ref))


def accumulated_pure(x):
    first = x[0] + x[0] ** 3
    return first * (x[1] + x[1] ** 2 * first) * (x[2] + x[2] ** 2 * first)


def swapped(x):
    ref = jax.new_ref(x * x)
    old = jax.ref.swap(ref, slice(0, 2), jnp.cos(x[1:]))
    return jnp.sum(old * ref[1:]) * ref[0]


def swapped_pure(x):
    now = jnp.concatenate([jnp.cos(x[1:]), x[2:] ** 2])
    return jnp.sum(x[:2] ** 2 * now[1:]) * now[0]


def dynamic(x):
    ref = jax.new_ref(jnp.zeros((2, 3)))
    i = jnp.argmax(x) // 2
    ref[i] = x**2
    ref[i, 1] = x[0]
    return jnp.sum(ref[i] * x) + jnp.sum(ref[1 - i])


def dynamic_pure(x):
    return jnp.sum((x**2).at[1].set(x[0]) * x)


def in_a_jit(x):
    ref = jax.new_ref(x)

    @jax.jit
    def work(y):
        ref[1] = y[0] * ref[2]
        return jnp.sin(ref[...])

    return jnp.sum(work(x) * ref[...])


def in_a_jit_pure(x):
    now = x.at[1].set(x[0] * x[2])
    return jnp.sum(jnp.sin(now) * now)


def closed_over(x):
    """Two jits close over the reference: it is a constant of theirs."""
    ref = jax.new_ref(x)

    @jax.jit
    def read():
        return jnp.sin(ref[...])

    @jax.jit
    def write():
        ref[...] = ref[...] * jnp.cos(ref[0])

    before = read()
    write()
    return jnp.sum(before * ref[...])


def closed_over_pure(x):
    return jnp.sum(jnp.sin(x) * x * jnp.cos(x[0]))


def made_empty(x):
    ref = jax.empty_ref(jax.ShapeDtypeStruct((3,), x.dtype))
    ref[...] = x * x
    ref[1] = ref[0] * ref[2]
    y = jnp.sum(jnp.sin(ref[...]))
    jax.free_ref(ref)
    return y


def made_empty_pure(x):
    return jnp.sum(jnp.sin((x * x).at[1].set(x[0] ** 2 * x[2] ** 2)))


def scanned_over(x):
    """One reference is read row by row, one is written."""
    read, work = jax.new_ref(jnp.sin(x)), jax.new_ref(x)

    def step(c, rows):
        r, w = rows
        w[...] = w[...] * c
        return c * r[...], w[...]

    c, ys = lax.scan(step, 1.0, (read, work))
    return c * jnp.sum(ys) + jnp.sum(work[...] ** 2)


def scanned_over_pure(x):
    c, work = 1.0, []
    for a in x:
        work.append(a * c)
        c = c * jnp.sin(a)
    return c * sum(work) + sum(w**2 for w in work)


_read = jax.custom_vjp(lambda ref, x: x * ref[...])
_read.defvjp(lambda ref, x: (_read(ref, x), (ref[...], x)), lambda kept, ct: (ct * kept[1], ct * kept[0]))


def read_by_a_users_rule(x):
    ref = jax.new_ref(jnp.sin(x))
    y = _read(ref, x)
    ref[1] = y[0]
    return jnp.sum(_read(ref, y))


def read_by_a_users_rule_pure(x):
    y = x * jnp.sin(x)
    return jnp.sum(jnp.sin(x).at[1].set(y[0]) * y)


def of_constants(x):
    ref = jax.new_ref(jnp.zeros(()))
    ref[...] += 2.0
    return jnp.sum(x) * ref[...]


def in_a_scan(x):
    """One reference is read only, one is written and read at other places, one adds up."""
    read, work, total = jax.new_ref(jnp.sin(x)), jax.new_ref(x), jax.new_ref(x[0])

    def step(c, i):
        work[i] = work[i] * work[i - 1] * read[i]
        jax.ref.addupdate(total, (), work[i] * c)
        return c * x[i], total[...]

    return jnp.sum(lax.scan(step, 1.0, jnp.arange(3))[1] * work[...])


def in_a_scan_pure(x):
    work, total, c, ys = x, x[0], 1.0, []
    for i in range(3):
        work = work.at[i].set(work[i] * work[i - 1] * jnp.sin(x[i]))
        total, c = total + work[i] * c, c * x[i]
        ys.append(total)
    return jnp.sum(jnp.stack(ys) * work)


def in_nested_loops(x):
    ref = jax.new_ref(x)

    def outer(i, total):
        def inner(j, product):
            ref[j] = ref[j] * 0.9 + product * ref[i]
            return product * ref[j]

        return total + lax.fori_loop(0, 3, inner, 1.0)

    return lax.fori_loop(0, 3, outer, 0.0) * ref[1]


def in_nested_loops_pure(x):
    work, total = x, 0.0
    for i in range(3):
        product = 1.0
        for j in range(3):
            work = work.at[j].set(work[j] * 0.9 + product * work[i])
            product = product * work[j]
        total = total + product
    return total * work[1]


def in_branches(x):
    """The reference is what is differentiated, not the branches' other operands."""
    ref = jax.new_ref(x)

    def step(c, i):
        lax.cond(i % 2 == 0, lambda: ref.__setitem__(i, ref[i] * ref[2]), lambda: jax.ref.addupdate(ref, 0, ref[i]))
        return c, ref[0]

    return jnp.sum(lax.scan(step, 0, jnp.arange(3))[1]) * ref[2]


def in_branches_pure(x):
    work = x.at[0].multiply(x[2])
    first = work[0]
    work = work.at[0].add(work[1])
    second = work[0]
    work = work.at[2].multiply(work[2])
    return (first + second + work[0]) * work[2]


def in_a_while_loop(x):
    ref = jax.new_ref(x)

    def step(i):
        ref[i] = ref[i] * jnp.sin(ref[i - 1])
        return i + 1

    lax.while_loop(lambda i: (i < 3) & (ref[0] < 10.0), step, 1)
    return jnp.sum(ref[...] ** 2)


def in_a_while_loop_pure(x):
    second = x[1] * jnp.sin(x[0])
    return x[0] ** 2 + second**2 + (x[2] * jnp.sin(second)) ** 2


def in_a_checkpoint(x):
    """One reference lives inside, one outside."""
    outside = jax.new_ref(x)

    @jax.checkpoint
    def work(y):
        inside = jax.new_ref(y)
        inside[0] = inside[1] * inside[2]
        outside[1] = outside[0] * inside[0]
        return jnp.sin(inside[...])

    return jnp.sum(work(x) * outside[...])


def in_a_checkpoint_pure(x):
    inside = x.at[0].set(x[1] * x[2])
    return jnp.sum(jnp.sin(inside) * x.at[1].set(x[0] * inside[0]))


def fresh_in_each_step(x):
    def step(c, a):
        ref = jax.new_ref(jnp.zeros(()))
        ref[...] += a * c
        ref[...] *= ref[...]
        return c + ref[...], jax.ref.freeze(ref)

    return jnp.sum(lax.scan(step, 1.0, x)[1])


def fresh_in_each_step_pure(x):
    c, total = 1.0, 0.0
    for a in x:
        c, total = c + (a * c) ** 2, total + (a * c) ** 2
    return total


PROGRAMS = {
    "overwritten": (overwritten, overwritten_pure),
    "accumulated": (accumulated, accumulated_pure),
    "swapped": (swapped, swapped_pure),
    "dynamic": (dynamic, dynamic_pure),
    "in a jit": (in_a_jit, in_a_jit_pure),
    "closed over": (closed_over, closed_over_pure),
    "scanned over": (scanned_over, scanned_over_pure),
    "read by a user's rule": (read_by_a_users_rule, read_by_a_users_rule_pure),
    "in a scan": (in_a_scan, in_a_scan_pure),
    "in nested loops": (in_nested_loops, in_nested_loops_pure),
    "in branches": (in_branches, in_branches_pure),
    "in a while loop": (in_a_while_loop, in_a_while_loop_pure),
    "in a checkpoint": (in_a_checkpoint, in_a_checkpoint_pure),
    "fresh in each step": (fresh_in_each_step, fresh_in_each_step_pure),  # jax.vjp gives another value of it
    "of constants": (of_constants, lambda x: 2.0 * jnp.sum(x)),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.sampled(4)
def test_equals_the_function_without_references(name):
    fun, pure = PROGRAMS[name]

    def derivatives(d, fun, x):
        return d.value_and_grad(fun)(x), d.grad(lambda x: jnp.sum(d.grad(fun)(x) ** 2))(x)

    def mapped(x):
        return [jax.vmap(d.grad(f))(jnp.stack([x, 2 * x])) for d, f in ((reverse, fun), (jax, pure))]

    @jax.jit
    def all_of(x):
        in_a_jit = reverse.value_and_grad(jax.jit(fun))(x)
        return derivatives(jax, pure, x), derivatives(reverse, fun, x), in_a_jit

    (expected, second), (ours, our_second), in_a_jit = all_of(X)
    # JAX fails at a jit of a vmap of places that are computed
    our_rows, rows = mapped(X) if name == "dynamic" else jax.jit(mapped)(X)
    for actual in (reverse.value_and_grad(fun)(X), ours, in_a_jit):
        for a, e in zip(actual, expected):
            np.testing.assert_allclose(a, e, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(our_rows, rows, rtol=1e-12)
    np.testing.assert_allclose(our_second, second, rtol=1e-12, atol=1e-12)


def test_a_reference_that_is_made_empty():
    """It lives in a compiled program alone, and JAX does not map it."""
    ours = reverse.value_and_grad(jax.jit(made_empty))(X)
    for actual, expected in zip(ours, jax.value_and_grad(made_empty_pure)(X)):
        np.testing.assert_allclose(actual, expected, rtol=1e-13)


def test_a_reference_of_others_takes_no_part():
    """It may hold a record of the run, but nothing that is differentiated."""
    ref = jax.new_ref(jnp.float64(0.0))

    def noted(x):
        ref[...] = lax.stop_gradient(x) * 2
        jax.ref.addupdate(ref, ..., jnp.float64(1.0))
        return x**2 * ref[...]

    assert reverse.grad(noted)(3.0) == 42.0
    assert ref[...] == 7.0

    def escaping(x):
        ref[...] = x
        return x

    for grad in (reverse.grad, jax.grad):
        with pytest.raises(Exception, match="non-differentiated array reference"):
            grad(escaping)(jnp.float64(1.0))


def test_a_loop_may_note_what_is_not_differentiated():
    ref = jax.new_ref(jnp.zeros(3))

    def noted(x):
        def step(c, i):
            ref[i] = lax.stop_gradient(c)
            return c * x, None

        return lax.scan(step, x, jnp.arange(3))[0]

    assert reverse.grad(noted)(2.0) == 32.0
    np.testing.assert_array_equal(ref[...], [2.0, 4.0, 8.0])

    def escaping(x):
        return lax.fori_loop(0, 3, lambda i, c: ref.__setitem__(i, c) or c * x, x)

    with pytest.raises(ValueError, match="non-differentiated array reference"):
        reverse.grad(escaping)(2.0)


def test_a_users_forward_pass_does_not_write_to_a_differentiated_reference():
    double = jax.custom_vjp(lambda ref: ref.__setitem__(..., 2 * ref[...]))
    double.defvjp(lambda ref: (ref.__setitem__(..., 2 * ref[...]), None), lambda _, ct: (ct,))

    def fun(x):
        ref = jax.new_ref(x)
        double(ref)
        return ref[...]

    with pytest.raises(NotImplementedError, match=r"custom_vjp writes to a reference .*test_references\.py"):
        reverse.grad(fun)(2.0)


def test_a_note_is_not_differentiated():
    """A reference that is made for notes takes them in every context, once."""

    def fun(x, note):
        def step(c, _):
            note[...] += c
            return jnp.sin(c), note[...]

        @jax.checkpoint
        def again(x):
            note[...] += x
            return lax.scan(step, x, None, length=2)

        c, ys = again(x)
        return c + jnp.sum(ys)

    note = jax.new_ref(jnp.float64(1.0), kind="no_grad_no_remat")
    slope, in_a_jit = reverse.grad(fun)(0.5, note), jax.jit(reverse.grad(fun))(0.5, note)
    x = 0.5
    np.testing.assert_allclose([slope, in_a_jit], np.cos(np.sin(x)) * np.cos(x), rtol=1e-14)
    np.testing.assert_allclose(note[...], 1 + 2 * (x + x + np.sin(x)), rtol=1e-14)


def test_one_reference_is_one_primal():
    ref = jax.new_ref(jnp.zeros(3))
    with pytest.raises(ValueError, match=r"fun got the same mutable array .* at one and others\['b'\]"):
        reverse.vjp(_named(lambda one, others: one[0] * others["b"][0]), ref, {"a": 1.0, "b": ref})


def _named(fun):
    fun.__name__ = "fun"
    return fun


def test_a_backward_pass_may_write_to_a_reference():
    """The cotangent at a place of the program, put aside by the user's backward pass."""
    stash = jax.custom_vjp(lambda ref, x: x)

    def backward(ref, ct):
        ref[...] = ct
        return None, ct

    stash.defvjp(lambda ref, x: (x, ref), backward)
    ref = jax.new_ref(jnp.float64(0.0))

    def looped(x):
        return 5.0 * lax.scan(lambda c, _: (stash(ref, c * x), None), 1.0, None, length=2)[0]

    for fun, put_aside in (
        (lambda x: 5.0 * stash(ref, x * x), 5.0),
        (jax.jit(lambda x: 5.0 * stash(ref, x * x)), 5.0),
        (looped, 15.0),  # at the first step, to which the backward pass comes last
        (jax.jit(jax.checkpoint(looped)), 15.0),
    ):
        ref[...] = jnp.float64(0.0)
        assert reverse.grad(fun)(3.0) == 30.0
        assert ref[...] == put_aside
