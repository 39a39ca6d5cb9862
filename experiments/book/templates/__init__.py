"""The site's templates, in explain's environment: one shell and one set of colours with the other pages."""

import functools
from pathlib import Path
from typing import Any

from functional_dl.explain import inline

HERE = Path(__file__).parent


@functools.cache
def environment() -> Any:
    """jinja2's, with these templates before explain's."""
    import jinja2

    env = inline.environment()
    env.loader = jinja2.ChoiceLoader([jinja2.FileSystemLoader(HERE), env.loader])
    return env


def render(template: str, **values: Any) -> str:
    return environment().get_template(template).render(**values)


def file(name: str) -> str:
    """The text of a script or style sheet."""
    return (HERE / name).read_text(encoding="utf-8")
