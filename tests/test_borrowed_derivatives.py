"""Hand-derived rooms borrow no derivative from JAX, held over syntax trees; and that the holder holds."""

from pathlib import Path

import pytest
from architecture import PACKAGE, modules, room
from borrowed_derivatives import (
    DIFFERENTIATION,
    HAND_DERIVED,
    READS_REGISTRATIONS,
    differentiation_faults,
    private_faults,
)
from every import every

ROOT = Path(__file__).resolve().parents[1]
OURS = modules(ROOT, PACKAGE)
ALL = OURS | modules(ROOT, "experiments")
HAND_WRITTEN = {name: path for name, path in OURS.items() if room(name) in HAND_DERIVED}


def uses_public_names(module):
    faults = private_faults(ALL[module].read_text(), module)
    assert not faults, "\n".join(map(str, faults))


def is_written_by_hand(module):
    faults = differentiation_faults(HAND_WRITTEN[module].read_text(), module)
    assert not faults, "\n".join(map(str, faults))


def test_nothing_private_to_jax_is_used():
    every(ALL, uses_public_names)


def test_derivatives_are_written_by_hand():
    every(HAND_WRITTEN, is_written_by_hand)


BORROWED_DERIVATIVES = [
    "import jax\njax.vjp(f, x)",
    "import jax as j\nj.grad(f)",
    "import jax\ng = jax.value_and_grad",
    "from jax import grad",
    "from jax import jvp as push",
    "from jax import *",
    "import jax.numpy\njax.linearize(f, x)",
    "import functools, jax\nfunctools.partial(jax.linear_transpose, f)",
    "import jax\n@jax.jacrev\ndef f(x): return x",
    "import jax\ndef f():\n    return [jax.jacfwd]",
    "import jax\ngetattr(jax, 'hessian')",
    "import jax\ngetattr(jax, 'gr' + 'ad')",
    "import jax\ngetattr(getattr(jax, 'interpreters'), 'ad')",
    "import jax\nvars(jax)['grad']",
    "import jax\njax.__dict__['grad']",
    "import jax\nj = jax\nj.grad(f)",
    "import jax\n(lambda module: module.grad)(jax)",
    "import jax\nx, j = 0, jax",
    "import operator, jax\noperator.attrgetter('grad')(jax)",
    "from jax.interpreters import ad",
    "from jax import interpreters\ninterpreters.ad.primitive_transposes",
    "from jax import interpreters as i\nuse(i)",
    "import jax.interpreters.ad",
    "import jax.interpreters.ad as reverse_mode",
    "import importlib\nimportlib.import_module('jax.interpreters.ad')",
    "import importlib\nimportlib.import_module('jax').grad(f)",
    "import importlib\nimportlib.import_module(name)",
    "import importlib\nimportlib.import_module(f'{name}.grad')",
    "import importlib\nimportlib.import_module(f'jax.{name}')",
    "__import__('jax').vjp(f, x)",
    "import sys\nsys.modules['jax'].vjp(f, x)",
    "exec('import jax; jax.vjp')",
    "import jax\njax.ad",
    "import jax\njax.ad.backward_pass(f)",
    "from jax import ad\nad.DontWant()",
    "import jax\ngetattr(jax.ad, name)",
    "import jax\njax.fwd_and_bwd(f, 1)",
    "from jax.experimental import jet",
    "from jax.experimental.jet import jet",
    "from jax.experimental.sparse import grad",
    "from jax.experimental import sparse; sparse.jacrev(f)",
    "from jax.experimental import sparse; sparse.ad",
    "from jax.experimental import sparse; s = sparse",
    "from jax.extend.core import eval_jaxpr_transpose",
    "from jax.test_util import check_grads",
    "import optax",
    "from jax.interpreters.ad import primitive_jvps",
    "from functional_dl.reverse.rules.foreign import primitive_jvps",
    "from functional_dl.tree import jax",
    "from functional_dl.tree import *",
    "from functional_dl import tree\ntree.jax.grad(f)",
]


def is_found(source):
    assert differentiation_faults(source, f"{PACKAGE}.reverse.rules.planted")


def test_borrowed_derivatives_are_found():
    every(BORROWED_DERIVATIVES, is_found, name=repr)


def is_banned(name):
    base, _, last = name.rpartition(".")
    assert differentiation_faults(f"from {base} import {last}", f"{PACKAGE}.reverse.rules.planted")
    assert differentiation_faults(f"import jax\njax{name[3:]}(f)", f"{PACKAGE}.reverse.rules.planted")


def test_every_banned_name_is_found():
    every(sorted(DIFFERENTIATION), is_banned)


def is_found_at_the_end_of(module):
    source = HAND_WRITTEN[module].read_text()
    assert differentiation_faults(f"{source}\n\ndef planted(f, x):\n    import jax\n    jax.vjp(f, x)\n", module)


def test_borrowed_derivative_is_found_in_every_real_file():
    every(HAND_WRITTEN, is_found_at_the_end_of)


def test_one_file_may_read_registrations_and_no_more():
    assert READS_REGISTRATIONS in HAND_WRITTEN
    read = "from jax.interpreters.ad import UndefinedPrimal, Zero, primitive_jvps, primitive_transposes"
    assert not differentiation_faults(read, READS_REGISTRATIONS)
    assert differentiation_faults(read, f"{PACKAGE}.reverse.rules.planted")
    for name in ("jvp", "linearize", "JVPTrace", "get_primitive_transpose"):
        assert differentiation_faults(f"from jax.interpreters.ad import {name}", READS_REGISTRATIONS)


OWN_DERIVATIVES = [
    "import jax\nimport jax.numpy as jnp\njax.jit(f)(jnp.log(x))",
    "from jax import lax\nlax.dot_general(x, y, d)",
    "from jax.extend.core import jaxpr_as_fun\nfrom jax.extend.core.primitives import dot_general_p",
    "import jax\njax.tree_util.tree_map(f, x)\njax.make_jaxpr(f)(x)\njax.custom_vjp",
    "from functional_dl.reverse.api import vjp\nvjp(f, x)",
    "def grad(f):\n    '''As jax.grad.'''\n    return vjp(f)",
    "import jax\nhasattr(jax.extend.core, 'Jaxpr')\njax.__version__",
    "import numpy as np\nnp.gradient(x)",
    "import jax\njax.ad.DontWant()\nx is jax.ad.GradValue",
    "import importlib\nimportlib.import_module(f'{__name__}.{family}')",
]


@pytest.mark.parametrize("source", OWN_DERIVATIVES)
def test_own_derivative_passes(source):
    assert not differentiation_faults(source, f"{PACKAGE}.reverse.rules.planted")


PRIVATE = [
    "import jax._src",
    "import jax._src.core as core",
    "from jax._src import ad_util",
    "from jax import _src",
    "import jax\njax._src.core.Jaxpr",
    "import jax as j\ngetattr(j, '_src')",
    "import importlib\nimportlib.import_module('jax._src.core')",
    "import jax.numpy as jnp\njnp._promote",
]


@pytest.mark.parametrize("source", PRIVATE)
def test_private_name_is_found(source):
    assert private_faults(source, f"{PACKAGE}.layers")


def test_public_name_is_not_private():
    assert not private_faults("import jax\njax.__version__\nself._src = 1\njax.lax.exp(_x)", f"{PACKAGE}.layers")
