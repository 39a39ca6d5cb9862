"""The arrows of the map and its ban on borrowed derivatives, held over syntax trees; and that it holds."""

import graphlib
import subprocess
import sys
from pathlib import Path

import pytest
from architecture import (
    DIFFERENTIATION,
    HAND_DERIVED,
    MAY_IMPORT,
    PACKAGE,
    arrow_faults,
    differentiation_faults,
    import_graph,
    init_faults,
    modules,
    private_faults,
    room,
)

ROOT = Path(__file__).resolve().parents[1]
OURS = modules(ROOT, PACKAGE)
ALL = OURS | modules(ROOT, "experiments")
HAND_WRITTEN = {name: path for name, path in OURS.items() if room(name) in HAND_DERIVED}


def is_package(path: Path) -> bool:
    return path.name == "__init__.py"


@pytest.mark.parametrize("module", ALL)
def test_imports_follow_the_arrows(module):
    faults = arrow_faults(ALL[module].read_text(), module, is_package(ALL[module]))
    assert not faults, "\n".join(map(str, faults))


@pytest.mark.parametrize("module", ALL)
def test_nothing_private_to_jax_is_used(module):
    faults = private_faults(ALL[module].read_text(), module)
    assert not faults, "\n".join(map(str, faults))


@pytest.mark.parametrize("module", HAND_WRITTEN)
def test_derivatives_are_written_by_hand(module):
    faults = differentiation_faults(HAND_WRITTEN[module].read_text(), module)
    assert not faults, "\n".join(map(str, faults))


def test_no_module_imports_itself_through_others():
    sources = {name: (path.read_text(), is_package(path)) for name, path in OURS.items()}
    # The root re-exports rooms and no room imports the root by itself, so it is left out.
    graph = {name: targets - {PACKAGE} for name, targets in import_graph(sources).items() if name != PACKAGE}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_arrows_have_no_cycle():
    assert list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())


def test_the_heart_is_among_the_files_looked_at():
    for name in ("aliases", "tree", "reverse.trace", "reverse.rule", "reverse.sweep", "reverse.api"):
        assert f"{PACKAGE}.{name}" in OURS
    assert any(name.startswith(f"{PACKAGE}.reverse.rules.") for name in HAND_WRITTEN)
    assert "experiments.__main__" in ALL


def test_init_only_re_exports():
    faults = init_faults((ROOT / PACKAGE / "__init__.py").read_text())
    assert not faults, "\n".join(map(str, faults))


def in_fresh_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_gives_every_room():
    rooms = {room(name) for name in OURS} - {None, "aliases", "__main__"}
    found = in_fresh_python("import functional_dl; print(*dir(functional_dl))").split()
    assert rooms <= set(found)


@pytest.mark.parametrize("extra", ["matplotlib", "orbax", "rich", "tyro", "sklearn", "quadax"])
def test_import_is_light(extra, imported_by_the_package):
    assert "jax" in imported_by_the_package
    assert extra not in imported_by_the_package


@pytest.fixture(scope="module")
def imported_by_the_package() -> set[str]:
    return set(in_fresh_python("import functional_dl, sys; print(*sys.modules)").split())


# The holder holds: every planted violation is found, in a module of the named room.
FORBIDDEN_ARROWS = [
    ("aliases", "from functional_dl import tree"),
    ("tree", "from functional_dl.layers import dense"),
    ("activations", "from functional_dl.losses import hinge"),
    ("losses", "import functional_dl.models as m"),
    ("layers", "from functional_dl.models import mlp"),
    ("models.mlp", "from functional_dl import training"),
    ("models.mlp", "from ..training import fit"),
    ("models.mlp", "def init():\n    from functional_dl.training import fit"),
    ("models.mlp", "import importlib\nimportlib.import_module('functional_dl.training')"),
    ("training.loop", "from functional_dl.reverse import grad"),
    ("training.loop", "import experiments.digits"),
    ("calculus.limits", "from functional_dl import reverse"),
    ("integrals.geometry", "from functional_dl import reverse"),
    ("optimality.kkt", "from functional_dl import reverse"),
    ("check.compare", "from functional_dl.reverse.sweep import forward"),
    ("check.compare", "from functional_dl import models"),
    ("check.find_nan", "from functional_dl import models"),
    ("explain.page", "from functional_dl import models"),
    ("reverse.api", "from functional_dl import layers"),
    ("reverse.api", "from functional_dl.losses import hinge"),
    ("reverse.api", "from functional_dl.models import mlp"),
    ("reverse.api", "import functional_dl"),
    ("reverse.api", "import functional_dl.tree"),
    ("reverse.api", "from functional_dl import *"),
    ("reverse.api", "from functional_dl.reverse import *"),
    ("reverse.trace", "from functional_dl.reverse import sweep"),
    ("reverse.rule", "from functional_dl.reverse.sweep import backward"),
    ("reverse.rule", "from .sweep import backward"),
    ("reverse.sweep", "from functional_dl.reverse.rules.linear import dot_vjp"),
    ("reverse.sweep", "from .rules import linear"),
    ("reverse.sweep", "from functional_dl.reverse.api import vjp"),
    ("reverse.rules.linear", "from functional_dl.reverse import api"),
    ("reverse.rules.linear", "from ..api import vjp"),
    ("reverse.rules.linear", "from functional_dl.reverse import grad"),
    ("training.loop", "import tests.architecture"),
    ("attic", "x = 1"),
]


@pytest.mark.parametrize(("place", "source"), FORBIDDEN_ARROWS)
def test_forbidden_arrow_is_found(place, source):
    assert arrow_faults(source, f"{PACKAGE}.{place}")


ALLOWED_ARROWS = [
    ("tree", "from functional_dl.aliases import PyTree"),
    ("models.mlp", "from functional_dl import activations, layers"),
    ("models.mlp", "from functional_dl.models import linear"),
    ("training.loop", "from functional_dl.tree import norm"),
    ("check.find_nan", "from functional_dl.reverse import sweep"),
    ("derivations.softmax", "from functional_dl import check, reverse"),
    ("reverse.sweep", "from functional_dl.reverse.rule import RULES"),
    ("reverse.rules.linear", "from ..rule import vjp_rule"),
    ("reverse.api", "from functional_dl.reverse.rules import linear"),
    ("training.loop", "import jax\nfrom functional_dl import __version__"),
]


@pytest.mark.parametrize(("place", "source"), ALLOWED_ARROWS)
def test_allowed_arrow_passes(place, source):
    assert not arrow_faults(source, f"{PACKAGE}.{place}")


def test_relative_import_in_a_package_counts_from_the_package():
    assert not arrow_faults("from .api import vjp", f"{PACKAGE}.reverse", is_package=True)
    assert arrow_faults("from .models import mlp", f"{PACKAGE}.reverse", is_package=False)


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
    "import jax\njax.fwd_and_bwd(f, 1)",
    "import jax\njax.custom_derivatives.linear_call(f, t, (), x)",
    "from jax.custom_derivatives import linear_call",
    "from jax.experimental import jet",
    "from jax.experimental.jet import jet",
    "from jax.experimental.sparse import grad",
    "from jax.extend.core import eval_jaxpr_transpose",
    "from jax.test_util import check_grads",
    "import optax",
    "from functional_dl.tree import jax",
    "from functional_dl.tree import *",
    "from functional_dl import tree\ntree.jax.grad(f)",
]


@pytest.mark.parametrize("source", BORROWED_DERIVATIVES)
def test_borrowed_derivative_is_found(source):
    assert differentiation_faults(source, f"{PACKAGE}.reverse.rules.planted")


@pytest.mark.parametrize("name", sorted(DIFFERENTIATION))
def test_every_banned_name_is_found(name):
    base, _, last = name.rpartition(".")
    assert differentiation_faults(f"from {base} import {last}", f"{PACKAGE}.reverse.rules.planted")
    assert differentiation_faults(f"import jax\njax{name[3:]}(f)", f"{PACKAGE}.reverse.rules.planted")


@pytest.mark.parametrize("module", HAND_WRITTEN)
def test_borrowed_derivative_is_found_in_every_real_file(module):
    source = HAND_WRITTEN[module].read_text()
    assert differentiation_faults(
        f"{source}\n\ndef planted(f, x):\n    import jax\n    jax.vjp(f, x)\n", module
    )


OWN_DERIVATIVES = [
    "import jax\nimport jax.numpy as jnp\njax.jit(f)(jnp.log(x))",
    "from jax import lax\nlax.dot_general(x, y, d)",
    "from jax.extend.core import jaxpr_as_fun\nfrom jax.extend.core.primitives import dot_general_p",
    "import jax\njax.tree_util.tree_map(f, x)\njax.make_jaxpr(f)(x)\njax.custom_vjp",
    "from functional_dl.reverse.api import vjp\nvjp(f, x)",
    "def grad(f):\n    '''As jax.grad.'''\n    return vjp(f)",
    "import jax\nhasattr(jax.extend.core, 'Jaxpr')\njax.__version__",
    "import numpy as np\nnp.gradient(x)",
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
    assert not private_faults(
        "import jax\njax.__version__\nself._src = 1\njax.lax.exp(_x)", f"{PACKAGE}.layers"
    )


@pytest.mark.parametrize("line", ["x = 1", "f()", "def f(): ...", "__version__ = f()", "if x:\n    import y"])
def test_code_in_init_is_found(line):
    assert init_faults(f'"""Title."""\n\n{line}\n')


def test_import_cycle_is_found():
    sources = {"a": ("import b", False), "b": ("from c import x", False), "c": ("from a import y", False)}
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter(import_graph(sources)).static_order())
