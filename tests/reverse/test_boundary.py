"""Tracebacks show the user's frames, where JAX's do."""

import contextlib
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import reverse


def wrong(x):
    return jnp.sum(x @ x.T[:1])


def of_a_gradient():
    return reverse.grad(lambda x: reverse.value_and_grad(wrong)(x)[0])(np.ones((2, 3)))


def of_a_jit():
    return reverse.jacrev(jax.jit(wrong))(np.ones((2, 3)))


@jax.custom_vjp
def failing(x):
    return x


def backward(_, ct):
    raise RuntimeError("here")


failing.defvjp(lambda x: (x, None), backward)


def of_a_pullback():
    return reverse.vjp(failing, 1.0)[1](1.0)


CASES = {
    of_a_gradient: (TypeError, ["of_a_gradient", "<lambda>", "wrong"]),
    of_a_jit: (TypeError, ["of_a_jit", "wrong"]),
    of_a_pullback: (RuntimeError, ["of_a_pullback", "backward"]),
}


@contextlib.contextmanager
def filtering(mode):
    before = jax.config.jax_traceback_filtering
    jax.config.update("jax_traceback_filtering", mode)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_filtering", before)


def raised(fun, kind, mode):
    with filtering(mode), pytest.raises(kind) as caught:
        fun()
    return caught.value


@pytest.mark.parametrize("fun", CASES)
def test_frames_of_the_user_alone(fun):
    kind, names = CASES[fun]
    error = raised(fun, kind, "quiet_remove_frames")
    shown = [f.f_code for f, _ in traceback.walk_tb(error.__traceback__)]
    own = [code.co_name for code in shown if code.co_filename == __file__][1:]  # the first one caught it
    assert own == names
    assert sum("For simplicity" in note for note in error.__notes__) == 1
    others = {code.co_filename for code in shown} - {__file__}
    assert len(others) <= 1  # where the exception was raised again
    hidden = raised(fun, kind, "tracebackhide").__traceback__
    visible = [f.f_code for f, _ in traceback.walk_tb(hidden) if "__tracebackhide__" not in f.f_locals]
    assert [code.co_name for code in visible if code.co_filename == __file__][1:] == names
    assert not any("functional_dl/reverse" in code.co_filename for code in visible)
    everything = list(traceback.walk_tb(raised(fun, kind, "off").__traceback__))
    assert sum("reverse" in f.f_code.co_filename and f.f_code.co_filename != __file__ for f, _ in everything) > 3
