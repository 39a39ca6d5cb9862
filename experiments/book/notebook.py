"""A chapter as a Jupyter notebook (nbformat 4.5), with the outputs that the build computed."""

import json
from typing import Any

from experiments.book.chapter import Chapter


def to_json(chapter: Chapter) -> str:
    cells = [_text(f"# {chapter.title}\n\n*{chapter.question}*", "title")]
    count = 0
    for place, (kind, text, output) in enumerate(chapter.cells):
        if kind == "markdown":
            cells.append(_text(text, f"text-{place}"))
        else:
            count += 1
            cells.append(_code(text, output, count, f"cell-{place}"))
    return json.dumps(
        {
            "cells": cells,
            "metadata": {
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python"},
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        },
        indent=1,
        ensure_ascii=False,
    )


def _text(text: str, name: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text.splitlines(keepends=True)}


def _code(text: str, output: str, count: int, name: str) -> dict[str, Any]:
    lines = (output + "\n").splitlines(keepends=True) if output else []
    shown = [{"name": "stdout", "output_type": "stream", "text": lines}] if lines else []
    return {
        "cell_type": "code",
        "execution_count": count,
        "id": name,
        "metadata": {},
        "outputs": shown,
        "source": text.splitlines(keepends=True),
    }
