"""Pages that need nothing but themselves: scripts, styles, fonts and data inside, the network shut out.

All have one head and one set of colours, light and dark.
"""

import base64
import functools
import hashlib
import html
import json
import math
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

HERE = "functional_dl.pages"
FONT = "Temml.woff2"
_NONE = "'none'"


@functools.cache
def asset(path: str, package: str = HERE) -> str:
    """The text of a file beside a package's code, without a mention of a source map."""
    text = (resources.files(package) / path).read_text(encoding="utf-8")
    return re.sub(r"//# sourceMappingURL=.*", "", text)


@functools.cache
def mathematics() -> tuple[str, str]:
    """Script and style sheet of the library that turns LaTeX into MathML; its font is inside of the style sheet."""
    font = (resources.files(HERE) / "vendor" / "temml" / FONT).read_bytes()
    data = f"data:font/woff2;base64,{base64.b64encode(font).decode()}"
    return asset("vendor/temml/temml.min.js"), asset("vendor/temml/Temml-Local.css").replace(FONT, data)


def policy(*scripts: str) -> str:
    """A Content-Security-Policy: nothing is fetched, and no script runs but these."""
    allowed = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src {_NONE}; script-src {allowed or _NONE}; style-src 'unsafe-inline'; font-src data:; "
        "img-src data:; base-uri 'none'; form-action 'none'"
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


def has_templates() -> bool:
    """Whether jinja2, which fills templates, is installed."""
    try:
        import jinja2  # noqa: F401
    except ImportError:
        return False
    return True


def render(template: str, *, title: str, text: str, style: str = "", scripts: Sequence[str] = (), **data: Any) -> str:
    """A page from a template, everything escaped; it may include the files of this room.

    Args:
      template: the template's text.
      title: of the page.
      text: what stands on the page in the template's place where jinja2 is not installed.
      style: rules besides the common ones.
      scripts: those that may run.
      **data: what the template shows.
    """
    style = asset("tokens.css") + style
    if not has_templates():
        return (
            f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
            f"<style>{style}</style>\n<body><pre>{html.escape(text)}</pre></body>\n</html>\n"
        )
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=jinja2.FunctionLoader(asset),
    )  # fmt: skip
    parts = {"title": title, "style": style, "scripts": scripts, "policy": policy(*scripts)}
    return environment.from_string(template).render(**parts, **data)
