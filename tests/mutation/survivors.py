"""Mutants that no judge can kill, or need not, each with the reason.

Keys are (function or mutant, change): the change as mutants.py words it, "" for any.
"""

REASONS: dict[tuple[str, str], str] = {}


def reason(name: str, change: str) -> str | None:
    function = name.split(":")[0]
    return next((REASONS[key] for key in ((name, change), (function, change), (function, "")) if key in REASONS), None)
