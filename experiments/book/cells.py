"""Running a chapter's cells, as a notebook would: one namespace, and the value of a cell's last line is shown.

Cells run under JAX's default settings, whatever the session's are; a cell may change them, as its reader would, for the
rest of the chapter.
"""

import ast
import contextlib
import io
import linecache
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax

DEFAULTS = {
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_debug_nans": False,
}


class CellError(Exception):
    """A cell raised; the message is the error and the cell's line."""


@dataclass(frozen=True)
class Outcome:
    """What a cell printed, and the value of its last line (None without one)."""

    printed: str
    value: Any

    @property
    def text(self) -> str:
        shown = "" if self.value is None else repr(self.value)
        return (self.printed + shown).rstrip("\n")


@contextlib.contextmanager
def default_settings() -> Iterator[None]:
    """JAX's defaults inside, the session's settings again after it."""
    kept = {name: getattr(jax.config, name) for name in DEFAULTS}
    try:
        for name, value in DEFAULTS.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in kept.items():
            jax.config.update(name, value)


class Session:
    """The cells of one chapter."""

    def __init__(self, chapter: str) -> None:
        self.chapter = chapter
        self.names: dict[str, Any] = {"__name__": f"book_{chapter}"}
        self.cells: list[str] = []

    def run(self, code: str) -> Outcome:
        """Raises CellError where the cell does, or where it warns."""
        file = f"<{self.chapter}, cell {len(self.cells) + 1}>"
        self.cells.append(code)
        # a cell's functions can be asked for their source
        linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                value = self._execute(code, file)
            except Exception as error:
                raise CellError(_said(error, file)) from error
        return Outcome(printed.getvalue(), value)

    def _execute(self, code: str, file: str) -> Any:
        tree = ast.parse(code, file)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, file, "exec", dont_inherit=True), self.names)
        if not isinstance(last, ast.Expr):
            return None
        return eval(compile(ast.Expression(last.value), file, "eval", dont_inherit=True), self.names)

    def value(self, expression: str) -> Any:
        """An expression over the names of the cells so far.  Raises CellError."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return eval(expression.strip(), self.names)
        except Exception as error:
            raise CellError(f"{expression.strip()}: {type(error).__name__}: {error}") from error


def _said(error: Exception, file: str) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    place = f" (line {lines[-1]} of the cell)" if lines else ""
    return f"{type(error).__name__}: {error}{place}"
