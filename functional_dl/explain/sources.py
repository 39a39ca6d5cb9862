"""Where in the user's program an equation stands: frames, statements, scopes."""

from __future__ import annotations

import ast
import functools
import linecache
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import jax
import jaxlib
from jax.extend.source_info_util import current_name_stack

from functional_dl import jaxprs

_HERE = Path(__file__).resolve().parent
_HIDDEN = tuple(
    str(path)
    for path in (
        Path(jax.__file__).parent,
        Path(str(jaxlib.__file__)).parent,
        sysconfig.get_paths()["stdlib"],
        _HERE,
        _HERE.parent / "reverse",
        jaxprs.__file__,
    )
)
_LIBRARY = _HIDDEN[0]
_NETWORKS = (str(_HERE.parent / "models"), str(_HERE.parent / "layers"))
LIBRARY = "library"  # marks a group that is a function of JAX's own
_NAMELESS = {"<lambda>", "<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>", "<module>"}


@dataclass(frozen=True)
class Frame:
    """A call in progress: which function, at which line.

    Fields:
      file, function, line: where.
      call: tells this call of the function from others; None where nobody knows.
      library: the function is one of jax.nn, whose name says more than what it does step by step.
    """

    file: str
    function: str
    line: int
    call: int | None = None
    library: bool = False

    @property
    def place(self) -> str:
        return f"{Path(self.file).name}:{self.line}"


@functools.cache
def is_users(file: str) -> bool:
    """Whether a file is neither JAX's, nor Python's, nor of the machinery here."""
    site = f"{_HIDDEN[2]}/site-packages"
    if file.startswith("<frozen"):
        return False
    return not any(
        file.startswith(hidden) and not (hidden == _HIDDEN[2] and file.startswith(site)) for hidden in _HIDDEN
    )


def live_frames(stop: CodeType, kept: list[Any]) -> tuple[Frame, ...]:
    """The user's frames (and those of jax.nn) from the innermost to the one that the function with code `stop` called.

    Args:
      kept: a list that keeps the frame objects alive, so that no two calls share an identity.
    """
    found = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not stop:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        library = file.startswith(_LIBRARY) and "/nn/" in file and not name.startswith("_")
        if library or is_users(file):
            kept.append(frame)
            found.append(Frame(file, name, frame.f_lineno, id(frame), library))
        frame = frame.f_back
    return tuple(found)


def staged_frames(source_info: Any, function: str, file: str) -> tuple[Frame, ...]:
    """The user's frames of a jaxpr's equation, from the innermost to the function that was traced (it included)."""
    traceback = getattr(source_info, "traceback", None)
    found = []
    for frame in getattr(traceback, "frames", ()):
        if not is_users(frame.file_name):
            continue
        name = frame.function_name.rsplit(".", 1)[-1]
        found.append(Frame(frame.file_name, name, frame.line_num))
        if name == function and frame.file_name == file:
            return tuple(found)
    return tuple(found[:1]) if not function else ()


def scopes(source_info: Any = None) -> tuple[str, ...]:
    """The names of jax.named_scope around an equation (or around here), outermost first."""
    stack = current_name_stack() if source_info is None else getattr(source_info, "name_stack", "")
    return jaxprs.scopes_of(stack)


def text(frame: Frame) -> str:
    """The line of a frame, without its indentation."""
    return linecache.getline(frame.file, frame.line).strip()


@functools.cache
def _tree(file: str) -> ast.Module | None:
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return None


@functools.cache
def statement(file: str, line: int) -> ast.stmt | None:
    """The innermost statement that a line belongs to; of compound statements only their heads count."""
    found = None
    for node in ast.walk(_tree(file) or ast.Module([], [])):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno):
            body = getattr(node, "body", None)
            if body and line >= body[0].lineno and not isinstance(body, ast.expr):
                continue
            if found is None or node.lineno >= found.lineno:
                found = node
    return found


def targets(frame: Frame) -> tuple[str, ...]:
    """The variables that the statement at a frame's line assigns to: ("h",) for h = tanh(z); () if it is none such."""
    node = statement(frame.file, frame.line)
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target: ast.expr = node.targets[0]
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        target = node.target
    else:
        return ()
    return tuple(n.id if isinstance(n, ast.Name) and n.id != "_" else "" for n in _flat(target))


def _flat(target: ast.expr) -> list[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        return [name for part in target.elts for name in _flat(part)]
    return [target]


def returns(frame: Frame) -> bool:
    """Whether the statement at a frame's line is a return."""
    return isinstance(statement(frame.file, frame.line), ast.Return)


@functools.cache
def enclosing_scopes(file: str, line: int, function: str) -> int:
    """How many names the `with jax.named_scope(...)` or `with layer_path(...)` around a line in its function give."""
    count = 0
    tree = _tree(file)
    if tree is None:
        return 0
    start = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            first, last = node.lineno, node.end_lineno or node.lineno
            if first <= line <= last:
                start = max(start, first)
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and start <= node.lineno < line <= (node.end_lineno or node.lineno):
            count += sum(_names_given(item.context_expr) for item in node.items)
    return count


def _names_given(context: ast.expr) -> int:
    """How many names a context manager puts around equations: one, or as many as the name it is given has parts."""
    if not isinstance(context, ast.Call) or not ast.unparse(context.func).endswith(("named_scope", "layer_path")):
        return 0
    name = context.args[0] if context.args else None
    parts = name.values if isinstance(name, ast.JoinedStr) else [name]
    text = "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in parts)
    return len(jaxprs.scopes_of(text))


def is_networks(file: str, inside: bool) -> bool:
    """Whether a file holds networks, of whose functions the paths of their layers say more than the names.

    Args:
      inside: the function was called in a scope; then those of a layer's file need no name either.
    """
    return file.startswith(_NETWORKS if inside else _NETWORKS[:1])


def path(frames: tuple[Frame, ...], names: tuple[str, ...], inside: bool = False) -> list[tuple[str, Any]]:
    """Scopes and functions around an equation, outermost first, each with what tells it from others of its name.

    A network's own functions are left out: of it the paths of its layers are shown.

    Args:
      frames: innermost first; the outermost one is the function itself, which is not named.
      names: scopes, outermost first.
      inside: there are scopes around the function itself.
    """
    counts = [0 if f.library else enclosing_scopes(f.file, f.line, f.function) for f in reversed(frames)]
    left = list(names)
    parts: list[tuple[str, Any]] = []
    for level, (frame, count) in enumerate(zip(reversed(frames), counts)):
        inside = inside or len(left) < len(names)
        if level and frame.function not in _NAMELESS and not is_networks(frame.file, inside):
            before = frames[len(frames) - level]
            call = frame.call if frame.call is not None else (before.file, before.line)
            parts.append((frame.function, (LIBRARY, call) if frame.library else call))
        for _ in range(count):
            if left:
                parts.append((left.pop(0), None))
    known = {name for name, _ in parts}
    return [*parts, *[(name, None) for name in left if name not in known]]  # entered by what no source line shows
