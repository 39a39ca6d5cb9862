"""results/NAME/, written whole or not at all."""

import csv
import io
import json
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from experiments.framework.result import Table


def write_directory(parent: Path, name: str, files: dict[str, bytes]) -> Path:
    """Puts the files into parent/name, replacing what was there only when all of them are written."""
    parent.mkdir(parents=True, exist_ok=True)
    target, old = parent / name, parent / f".{name}.old"
    if old.exists():  # an earlier replacement was cut short between its two renames
        if target.exists():
            shutil.rmtree(old)
        else:
            old.rename(target)
    for left in parent.glob(f".{name}.*"):  # by a process that was killed
        if left != old:
            shutil.rmtree(left, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=parent))
    try:
        fresh.chmod(0o755)
        for file, content in files.items():
            (fresh / file).write_bytes(content)
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return target


def write_file(path: Path, text: str) -> None:
    """Replaces a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def plain(value):
    """A value as JSON can say it: NumPy and JAX numbers become Python's, NaN and infinity become text."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if hasattr(value, "tolist"):
        return plain(np.asarray(value).tolist())
    return str(value)


def to_json(value) -> bytes:
    return (json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def to_json_lines(records) -> bytes:
    lines = (json.dumps(plain(dict(record)), ensure_ascii=False, allow_nan=False) for record in records)
    return "".join(line + "\n" for line in lines).encode()


def to_csv(table: Table) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([plain(cell) for cell in row] for row in table.rows)
    return text.getvalue().encode()
