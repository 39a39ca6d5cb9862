"""The site's templates; colours and mathematics are those of all pages, `functional_dl.pages`."""

import functools
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@functools.cache
def environment() -> Any:
    """jinja2's, escaping everything."""
    import jinja2

    return jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=jinja2.FileSystemLoader(HERE),
    )  # fmt: skip


def render(template: str, **values: Any) -> str:
    return environment().get_template(template).render(**values)


def file(name: str) -> str:
    """The text of a script or style sheet."""
    return (HERE / name).read_text(encoding="utf-8")
