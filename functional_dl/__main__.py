"""For people who have a function and no script:

functional-dl check MODULE:FUNCTION --shapes 3,4 4
functional-dl check path/to/file.py:FUNCTION --shapes 3,4 5:int32
functional-dl explain MODULE:FUNCTION --shapes 3,4 4 --markdown out.md
functional-dl find-nan MODULE:FUNCTION
functional-dl derivations softmax_cross_entropy

`python -m functional_dl` is the same.  The function's module is imported from the current folder, or is a file;
without --shapes the function is called with what the module's `arguments()` returns.  Exits with 1 where something is
wrong with the function, with 2 and one line where the command is.
"""

import contextlib
import importlib
import importlib.util
import io
import math
import sys
import traceback
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

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
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

        writable(json=self.json, html=self.html)
        if self.dtype in ("float64", "complex128"):
            jax.config.update("jax_enable_x64", True)
        from functional_dl import check, reverse
        from functional_dl.check.vjp.api import custom_rule

        least(order=self.order)
        fun, fun_vjp = function(self.target), function(self.vjp) if self.vjp else None
        primals = given(self.target, self.shapes or None, self) or drawn(("3",), self.dtype, self.scale, self.seed)
        call(self.target, fun, primals)
        if fun_vjp is not None:
            report = check.check_vjp(fun, fun_vjp, *primals, name=self.vjp, seed=self.seed)
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


@dataclass(frozen=True)
class FindNan:
    """Finds the equation that turns finite numbers into NaN or infinity, in a function or its gradient; exits with 1
    where there is one."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """MODULE:FUNCTION, or FILE.py:FUNCTION, of what MODULE:arguments() returns, or of zeros of the given shapes."""
    shapes: tuple[str, ...] = field(default=())
    """Shapes of arguments of zeros, as 3,4, or 3:int32; without them, TARGET is called with what MODULE's `arguments`
    returns."""

    def run(self) -> int:
        from functional_dl import check

        fun = function(self.target)
        primals = required(self.target, given(self.target, self.shapes or None, Zeros()))
        call(self.target, fun, primals)
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
        least(points=self.points)
        try:
            derivation = derivations.get(self.name)
        except KeyError as error:
            usage(error.args[0])
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

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
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

        outputs = {name: getattr(self, name) for name in ("html", "markdown", "latex", "python", "dot")}
        writable(**outputs)
        if self.dtype in ("float64", "complex128"):
            jax.config.update("jax_enable_x64", True)
        from functional_dl import explain

        fun = function(self.target)
        primals = required(self.target, given(self.target, self.shapes or None, self))
        call(self.target, fun, primals)
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


@dataclass(frozen=True)
class Zeros:
    """Arguments of zeros."""

    dtype: str = "float32"
    scale: float = 0.0
    seed: int = 0


def given(target: str, shapes: Sequence[str] | None, how: Any) -> list[Any] | None:
    """The arguments: drawn in the given shapes, or what the module's `arguments()` returns, or None without both."""
    least(seed=how.seed, least=0)
    if not math.isfinite(how.scale):
        usage(f"--scale: expected a finite number, got {how.scale}")
    if shapes is not None:
        return drawn(shapes, how.dtype, how.scale, how.seed)
    name = f"{target.rpartition(':')[0]}:arguments"
    make = found(name, None)
    if make is None:
        return None
    if not callable(make):
        usage(f"{name}: expected a function without arguments, got {arguments.described(make)}")
    primals = call(f"{name}()", make, ())
    if not isinstance(primals, tuple | list):
        usage(f"{name}(): expected a tuple of arguments, got {arguments.described(primals)}")
    return list(primals)


def required(target: str, primals: list[Any] | None) -> list[Any]:
    if primals is None:
        usage(f"{target}: expected --shapes, as in --shapes 3,4 4, or a function `arguments` beside it; got neither")
    return primals


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


def read_shape(text: str) -> tuple[int, ...]:
    """(3, 4) from "3,4"."""
    try:
        shape = tuple(int(n) for n in text.strip("()").split(",") if n.strip())
    except ValueError:
        usage(f"--shapes: expected integers as in 3,4, got {text!r}")
    if any(size < 0 for size in shape):
        usage(f"--shapes: expected sizes of at least 0, got {text!r}")
    return shape


# ---- what a command names --------------------------------------------------------------------------------


MISSING = object()


def function(target: str) -> Any:
    """The function that a target names."""
    value = found(target)
    if not callable(value):
        usage(f"{target}: expected a function, got {arguments.described(value)}")
    return value


def found(target: str, default: Any = MISSING) -> Any:
    """The object that MODULE:NAME or FILE.py:NAME names; the default, if there is one, where the module lacks it."""
    module, _, name = target.rpartition(":")
    if not module or not name:
        usage(f"{target}: expected MODULE:FUNCTION or FILE.py:FUNCTION")
    sys.path.insert(0, "")
    value: Any = loaded(target, module)
    for part in name.split("."):
        if not hasattr(value, part):
            if default is not MISSING:
                return default
            near = (
                arguments.nearest(part, [n for n in vars(value) if callable(getattr(value, n))]) if vars(value) else []
            )
            meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            usage(f"{target}: {module} has no {part!r}{meant}")
        value = getattr(value, part)
    return value


def loaded(target: str, module: str) -> Any:
    """A module by its name, or by its file's."""
    try:
        return _from_file(Path(module)) if module.endswith(".py") else importlib.import_module(module)
    except ModuleNotFoundError as error:
        near = f"; a file is named with its ending: {module}.py" if Path(f"{module}.py").is_file() else ""
        usage(f"{target}: {error}{near}")
    except FileNotFoundError:
        usage(f"{target}: no file {module}")
    except Exception as error:  # whatever a module raises when it is imported
        usage(f"{target}: {module} cannot be imported: {_said(error)}")


def _from_file(path: Path) -> Any:
    path = path.resolve(strict=True)
    if path.stem in sys.modules and getattr(sys.modules[path.stem], "__file__", None) == str(path):
        return sys.modules[path.stem]
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    value = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = value
    spec.loader.exec_module(value)
    return value


def call(target: str, fun: Any, primals: Sequence[Any]) -> Any:
    """fun(*primals), or what it raises, in one line."""
    try:
        return fun(*primals)
    except Exception as error:  # whatever a function raises
        shapes = ", ".join(map(arguments.described, primals))
        usage(f"{target}: cannot be called with ({shapes}): {_said(error)}")


# ---- what is wrong with a command ------------------------------------------------------------------------


def least(least: int = 1, **options: int) -> None:
    """Refuses an option's number below `least`."""
    for name, value in options.items():
        if value < least:
            usage(f"--{name}: expected an integer of at least {least}, got {value}")


def writable(**options: str) -> None:
    """Refuses, before any work, a file that cannot be written."""
    for name, text in options.items():
        path = Path(text)
        if not text:
            continue
        new = not path.exists()
        try:
            with path.open("ab"):
                pass
        except OSError as error:
            usage(f"--{name}: cannot write to {text}: {error.strerror}")
        if new:
            path.unlink()


def usage(message: str) -> NoReturn:
    """Says in one line what is wrong with the command, and exits with 2."""
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(2)


def _said(error: BaseException) -> str:
    """An error in one line: its kind, the first line of what it says, and where in the user's code it was raised."""
    text = next(iter(str(error).splitlines()), "")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    own = [frame for frame in frames if not frame.filename.startswith((str(Path(__file__).parent), "<frozen"))]
    where = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {text}{where}"


def parsed(args: Sequence[str] | None) -> Any:
    """The command that the arguments name; what is wrong with them is said in one line."""
    commands = {"check": Check, "derivations": Derivations, "explain": Explain, "find-nan": FindNan}
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.extras.subcommand_cli_from_dict(commands, prog="functional-dl", args=args)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        usage(f"{arguments.refusal(errors.getvalue())}; see functional-dl --help")


def main(args: Sequence[str] | None = None) -> int:
    """Runs a command; its exit status."""
    command = parsed(args)
    try:
        return command.run()
    except (TypeError, ValueError, ImportError) as error:  # what the library refuses, with a message for its user
        usage(_said(error))


if __name__ == "__main__":
    sys.exit(main())
