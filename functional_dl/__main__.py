"""For people who have a function and no script:

python -m functional_dl check MODULE:FUNCTION --shapes 3,4 4
python -m functional_dl check path/to/file.py:FUNCTION --shapes 3,4 5:int32
python -m functional_dl explain MODULE:FUNCTION --shapes 3,4 4 --markdown out.md
python -m functional_dl derivations softmax_cross_entropy

The function's module is imported from the current folder, or is a file.  Exits with 1 where something is wrong with the
function, with 2 where the command is.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import numpy as np

from functional_dl import arguments

try:
    import tyro
except ImportError:
    sys.exit(arguments.missing("tyro", "the command line", "cli"))


@dataclass(frozen=True)
class Check:
    """Judges a backward pass and names what is wrong with it; exits with 1 where it is.

    TARGET decorated with jax.custom_vjp: its rule against its own body.  With --vjp: that backward pass against TARGET.
    Else: a differentiator (--differentiate) on TARGET, to --order.
    """

    target: Annotated[str, tyro.conf.Positional]
    """MODULE:FUNCTION, or FILE.py:FUNCTION."""
    shapes: tuple[str, ...] = ()
    """One shape for each argument, as 3,4; () for a number; 3,4:int32 for integers, 3,4:int32<10 for those below ten.
    Without them: what the module's `arguments()` returns, or one vector of three numbers."""
    dtype: Literal["float32", "float64", "bfloat16", "float16", "complex64", "complex128"] = "float32"
    """Of the arguments, which are drawn from a normal distribution."""
    vjp: str = ""
    """MODULE:FUNCTION of fun_vjp(*primals) -> (out, pullback)."""
    differentiate: Literal["jax", "reverse"] = "reverse"
    """The differentiator that is checked where no backward pass is given."""
    order: int = 2
    """Up to which derivative."""
    scale: float = 1.0
    """Size of the arguments."""
    seed: int = 0
    """Of arguments and cotangents."""
    json: str = ""
    """Write the report as JSON to this file."""
    html: str = ""
    """Write the report as a page to this file."""

    def run(self) -> int:
        import jax

        if self.dtype in ("float64", "complex128"):
            jax.config.update("jax_enable_x64", True)
        from functional_dl import check, reverse
        from functional_dl.check.vjp.api import custom_rule

        fun = found(self.target)
        primals = self.primals()
        if self.vjp:
            report = check.check_vjp(fun, found(self.vjp), *primals, name=self.vjp, seed=self.seed)
        elif custom_rule(fun) is not None:
            report = check.check_custom_vjp(fun, *primals, name=self.target, seed=self.seed)
        else:
            differentiate = jax.vjp if self.differentiate == "jax" else reverse.vjp
            report = check.check_grads(
                fun, *primals, order=self.order, differentiate=differentiate, name=self.target, seed=self.seed
            )
        print(report)
        if self.json:
            report.to_json(self.json)
        if self.html:
            report.to_html(self.html)
        return 0 if report.passed else 1

    def primals(self) -> list[Any]:
        """Random arguments of the given shapes, or those of the module."""
        if not self.shapes:
            given = found(f"{self.target.rpartition(':')[0]}:arguments", None)
            if given is not None:
                return list(given())
        return drawn(self.shapes or ("3",), self.dtype, self.scale, self.seed)


@dataclass(frozen=True)
class FindNan:
    """Finds the equation that turns finite numbers into NaN or infinity, in a function or its gradient; exits with 1
    where there is one."""

    target: Annotated[str, tyro.conf.Positional]
    """MODULE:FUNCTION of the arguments that MODULE:arguments() returns, or of zeros of the given shapes."""
    shapes: tuple[str, ...] = field(default=())
    """Shapes of arguments of zeros, as 3,4; without them, TARGET is called with what MODULE's `arguments` returns."""

    def run(self) -> int:
        import jax.numpy as jnp

        from functional_dl import check

        fun = found(self.target)
        if self.shapes:
            primals = [jnp.zeros(read_shape(text)) for text in self.shapes]
        else:
            primals = found(f"{self.target.rpartition(':')[0]}:arguments")()
        report = check.find_nan(fun, *primals)
        print(report)
        return 1 if report.found else 0


@dataclass(frozen=True)
class Derivations:
    """Lists the derivations, or verifies one and prints it line by line; exits with 1 where a line is wrong."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """Of a derivation; all are listed without one."""
    points: int = 3
    """Random points at which every line is checked."""
    seed: int = 0
    """Of the points."""
    markdown: bool = False
    """Print the derivation as Markdown, without verifying it."""

    def run(self) -> int:
        import jax

        from functional_dl import derivations

        if not self.name:
            width = max(map(len, derivations.names()))
            for name in derivations.names():
                print(f"{name:{width}}  {derivations.get(name).title}")
            return 0
        try:
            derivation = derivations.get(self.name)
        except KeyError as error:
            sys.exit(error.args[0])
        if self.markdown:
            print(derivation.to_markdown())
            return 0
        report = derivation.verify(jax.random.key(self.seed), self.points)
        print(derivation.to_text())
        print(report)
        return 0 if report.passed else 1


@dataclass(frozen=True)
class Explain:
    """Shows how a function's value and cotangents are computed: steps, costs, checks; exits with 1 where a rule
    disagrees with an oracle."""

    target: Annotated[str, tyro.conf.Positional]
    """MODULE:FUNCTION of the arguments that MODULE:arguments() returns, or of random arrays of the given shapes."""
    shapes: tuple[str, ...] = field(default=())
    """One shape for each argument, as 3,4; () for a number.  Without them: what MODULE's `arguments` returns."""
    dtype: Literal["float32", "float64", "bfloat16", "float16", "complex64", "complex128"] = "float32"
    """Of the arguments, which are drawn from a normal distribution."""
    scale: float = 1.0
    """Size of the arguments."""
    seed: int = 0
    """Of arguments and cotangents."""
    check: bool = True
    """Check each step's rule."""
    html: str = ""
    """Write the explanation as a page to this file."""
    markdown: str = ""
    """Write it as Markdown to this file."""
    latex: str = ""
    """Write it as a LaTeX document to this file."""
    python: str = ""
    """Write the forward and backward pass as a Python module to this file."""
    dot: str = ""
    """Write the computational graph in Graphviz's language to this file."""

    def run(self) -> int:
        import jax

        if self.dtype in ("float64", "complex128"):
            jax.config.update("jax_enable_x64", True)
        from functional_dl import explain

        fun = found(self.target)
        if self.shapes:
            primals = drawn(self.shapes, self.dtype, self.scale, self.seed)
        else:
            primals = found(f"{self.target.rpartition(':')[0]}:arguments")()
        shown = explain.explain(fun, *primals, check=self.check, seed=self.seed)
        print(shown)
        texts = {
            self.markdown: shown.to_markdown,
            self.latex: shown.to_latex,
            self.python: shown.to_python,
            self.dot: lambda: shown.graph.to_dot(),
            self.html: shown.to_html,
        }
        for path, text in texts.items():
            if path:
                Path(path).write_text(text(), encoding="utf-8")
        return 0 if shown.passed else 1


def drawn(shapes: Sequence[str], dtype: str, scale: float, seed: int) -> list[Any]:
    """Random arguments of the given shapes."""
    import jax.numpy as jnp

    rng = np.random.default_rng(seed)
    arrays = []
    for text in shapes:
        text, _, kind = text.partition(":")
        shape = read_shape(text)
        if kind:
            kind, _, below = kind.partition("<")
            arrays.append(_integers(rng, shape, kind, below or "2"))
            continue
        values = scale * rng.normal(size=shape)
        if dtype.startswith("complex"):
            values = values + 1j * scale * rng.normal(size=shape)
        arrays.append(jnp.asarray(values).astype(dtype))
    return arrays


def _integers(rng, shape, kind: str, below: str) -> Any:
    """Random integers from 0 on."""
    import jax.numpy as jnp

    try:
        dtype = np.dtype(kind)
        if dtype.kind not in "iub":
            raise TypeError(f"{kind} is no integer dtype")
        return jnp.asarray(rng.integers(0, int(below), shape)).astype(dtype)
    except (TypeError, ValueError) as error:
        usage(f"--shapes: expected an integer dtype as in 3,4:int32<10; {error}")


def usage(message: str) -> NoReturn:
    """Says what is wrong with the command, and exits with 2."""
    print(message, file=sys.stderr)
    sys.exit(2)


MISSING = object()


def found(target: str, default: Any = MISSING) -> Any:
    """The object that MODULE:NAME or FILE.py:NAME names; the default, if there is one, where the module lacks it."""
    module, _, name = target.rpartition(":")
    if not module or not name:
        usage(f"{target}: expected MODULE:FUNCTION or FILE.py:FUNCTION")
    sys.path.insert(0, "")
    try:
        value: Any = loaded(module)
    except (ImportError, OSError) as error:
        usage(f"{target}: {error}")
    for part in name.split("."):
        if not hasattr(value, part):
            if default is not MISSING:
                return default
            usage(f"{target}: {module} has no {part!r}")
        value = getattr(value, part)
    return value


def loaded(module: str) -> Any:
    """A module by its name, or by its file's."""
    if not module.endswith(".py"):
        return importlib.import_module(module)
    path = Path(module).resolve()
    if path.stem in sys.modules and getattr(sys.modules[path.stem], "__file__", None) == str(path):
        return sys.modules[path.stem]
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"no file {module}")
    value = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = value
    spec.loader.exec_module(value)
    return value


def read_shape(text: str) -> tuple[int, ...]:
    """(3, 4) from "3,4"."""
    try:
        return tuple(int(n) for n in text.strip("()").split(",") if n.strip())
    except ValueError:
        usage(f"--shapes: expected integers as in 3,4, got {text!r}")


def main(args: Sequence[str] | None = None) -> int:
    commands = {"check": Check, "derivations": Derivations, "explain": Explain, "find-nan": FindNan}
    return tyro.extras.subcommand_cli_from_dict(commands, args=args).run()


if __name__ == "__main__":
    sys.exit(main())
