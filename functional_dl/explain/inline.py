"""Pages that need nothing but themselves: scripts, styles, fonts and data inside, the network shut out."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import math
import re
from importlib import resources
from typing import Any

from functional_dl import arguments

PACKAGE = "functional_dl.explain"
FONT = "Temml.woff2"


@functools.cache
def asset(path: str) -> str:
    """The text of a file of `templates/` or `vendor/`, without a mention of a source map."""
    text = (resources.files(PACKAGE) / path).read_text(encoding="utf-8")
    return re.sub(r"//# sourceMappingURL=.*", "", text)


@functools.cache
def mathematics() -> tuple[str, str]:
    """Script and style sheet of the library that turns LaTeX into MathML; its font is inside of the style sheet."""
    font = (resources.files(PACKAGE) / "vendor" / "temml" / FONT).read_bytes()
    data = f"data:font/woff2;base64,{base64.b64encode(font).decode()}"
    return asset("vendor/temml/temml.min.js"), asset("vendor/temml/Temml-Local.css").replace(FONT, data)


def policy(*scripts: str) -> str:
    """A Content-Security-Policy: nothing is fetched, and no script runs but these."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; font-src data:; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def island(data: Any) -> str:
    """JSON that can stand in a script element whatever its strings hold; NaN and infinities become texts."""
    text = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if data is None or isinstance(data, str | bool | int):
        return data
    number = data.item() if hasattr(data, "item") else data
    if isinstance(number, float) and not math.isfinite(number):
        return str(number)
    return number


def frame(page: str, title: str, height: int = 720) -> str:
    """The page in a frame of its own, for notebooks."""
    style = f"width:100%;height:{height}px;border:1px solid #8884;border-radius:6px"
    return (
        f'<iframe srcdoc="{html.escape(page, quote=True)}" title="{html.escape(title, quote=True)}" '
        f'sandbox="allow-scripts" style="{style}"></iframe>'
    )


def environment() -> Any:
    """jinja2's, escaping everything; its templates may include those of this room.

    Raises:
      ImportError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ImportError(arguments.missing("jinja2", "an HTML page", "pages")) from error
    return jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda name: asset(f"templates/{name}")),
    )  # fmt: skip
