"""The arrows of the map, held over syntax trees; and that the holder holds."""

import graphlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from architecture import (
    EQUATIONS,
    MAY_IMPORT,
    PACKAGE,
    READER,
    arrow_faults,
    import_graph,
    init_faults,
    modules,
    reader_faults,
    room,
)
from every import every

ROOT = Path(__file__).resolve().parents[1]
OURS = modules(ROOT, PACKAGE)
ALL = OURS | modules(ROOT, "experiments")


def is_package(path: Path) -> bool:
    return path.name == "__init__.py"


def follows_the_arrows(module):
    faults = arrow_faults(ALL[module].read_text(), module, is_package(ALL[module]))
    assert not faults, "\n".join(map(str, faults))


def test_imports_follow_the_arrows():
    every(ALL, follows_the_arrows)


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
    assert any(name.startswith(f"{PACKAGE}.reverse.rules.") for name in OURS)
    assert "experiments.__main__" in ALL


def test_one_file_reads_programs():
    files = ALL | modules(ROOT, "tests")
    faults = [fault for name, path in files.items() for fault in reader_faults(path.read_text(), name)]
    assert not faults, "\n".join(map(str, faults))
    assert reader_faults(OURS[READER].read_text(), "elsewhere")


@pytest.mark.parametrize("line", ["jaxpr.{}", "hasattr(jaxpr, '{}')", "attrgetter('jaxpr.{}')", "f'{{x}}{}'"])
def test_a_second_reader_is_found(line):
    assert reader_faults(line.format(EQUATIONS), f"{PACKAGE}.check.nan.walk")
    assert not reader_faults("equations(jaxpr)[0]", f"{PACKAGE}.check.nan.walk")


def test_init_only_re_exports():
    faults = init_faults((ROOT / PACKAGE / "__init__.py").read_text())
    assert not faults, "\n".join(map(str, faults))


def in_fresh_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_gives_every_room():
    rooms = {room(name) for name in OURS} - {None, "aliases", "__main__"}
    found = in_fresh_python("import functional_dl; print(*vars(functional_dl))").split()
    assert rooms <= set(found)


def test_import_leaves_the_devices_alone():
    # jax.distributed.initialize and settings of the devices must come before JAX's first computation.
    code = "import functional_dl, jax; jax.config.update('jax_num_cpu_devices', 3); print(jax.device_count())"
    assert in_fresh_python(code, XLA_FLAGS="").split() == ["3"]


def test_import_is_light():
    """Beside JAX, optax and chex, which everything needs: our own files, the public surface of JAX, jaxtyping.

    `.ci/import_time.py` measures what this costs.
    """
    code = (
        "import jax, optax, chex, sys; before = {*sys.modules}; import functional_dl; print(*{*sys.modules} - before)"
    )
    added = set(in_fresh_python(code).split())
    ours = {name for name in added if name.startswith(PACKAGE)}
    others = {name for name in added - ours if not name.startswith(("jax.", "jax._src.", "jaxtyping"))}
    assert len(ours) <= 256
    assert len(added - ours) <= 50
    assert len(others) <= 3, others  # no SciPy, quadax, mpmath, orbax, rich, ...


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
    ("check.nan.find", "from functional_dl import models"),
    ("check.nan.find", "from functional_dl.reverse import sweep"),
    ("calculus.taylor", "from functional_dl.reverse.trace import Tape"),
    ("calculus.program", "from functional_dl.reverse.trace import Tape"),
    ("calculus.derivatives", "from functional_dl.check.numeric import derivative"),
    ("jaxprs", "from functional_dl.reverse.trace import Tape"),
    ("estimates", "from functional_dl.check import numeric"),
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
    ("check.nan.walk", "from functional_dl.jaxprs import interpret"),
    ("derivations.softmax", "from functional_dl import check, reverse"),
    ("reverse.sweep", "from functional_dl.reverse.rule import PRIMITIVES"),
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


@pytest.mark.parametrize("line", ["x = 1", "f()", "def f(): ...", "__version__ = f()", "if x:\n    import y"])
def test_code_in_init_is_found(line):
    assert init_faults(f'"""Title."""\n\n{line}\n')


def test_import_cycle_is_found():
    sources = {"a": ("import b", False), "b": ("from c import x", False), "c": ("from a import y", False)}
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter(import_graph(sources)).static_order())
