"""functional-dl: a wrong command is answered by one line that says what is wrong, and by exit status 2."""

import sys
from pathlib import Path

import pytest

from functional_dl.__main__ import main

MODULE = """
import jax.numpy as jnp

number = 3

def loss(x):
    return jnp.sum(jnp.sin(x))

def product(x, w):
    return x @ w

def refuses(x):
    raise RuntimeError("two\\nlines")

def not_a_pair(x):
    return jnp.sin(x)
"""
BROKEN = "import jax\n\nraise OSError('no data')\n"
LIST = "def f(x):\n    return x\n\ndef arguments():\n    return 3.0\n"
CONSTANT = "def f(x):\n    return x\n\narguments = 3\n"
SYNTAX = "def f(x:\n"

MISTAKES = {
    "": "Expected one of {check, derivations, explain, find-nan}; see functional-dl --help",
    "chek mod:loss": "Unrecognized options: chek, mod:loss Available subcommands: check, derivations, explain, ",
    "check": "Missing from functional-dl check: TARGET",
    "check mod:loss --shape 3": "Unrecognized options: --shape, 3; did you mean --shapes?; see functional-dl --help",
    "check mod:loss --order two": "Error parsing --order: invalid literal for int() with base 10: 'two';",
    "check mod:loss --dtype float31": "invalid choice 'float31' for argument '--dtype'. Expected one of ('float32', ",
    "check mod": "mod: expected MODULE:FUNCTION or FILE.py:FUNCTION",
    "check modd:loss": "modd:loss: No module named 'modd'",
    "check mod.py.py:loss": "mod.py.py:loss: no file mod.py.py",
    "check mod:los": "mod:los: mod has no 'los'; did you mean 'loss'?",
    "check mod:number": "mod:number: expected a function, got 3 (int)",
    "check broken:f": "broken:f: broken cannot be imported: OSError: no data (broken.py:3)",
    "check syntax.py:f": "syntax.py:f: syntax.py cannot be imported: SyntaxError: '(' was never closed (s",
    "check mod:loss --shapes 3,a": "--shapes: expected integers as in 3,4, got '3,a'",
    "check mod:loss --shapes 3,-4": "--shapes: expected sizes of at least 0, got '3,-4'",
    "check mod:loss --shapes 3:float32": "--shapes: expected an integer dtype as in 3,4:int32<10; float32 is no ",
    "check mod:loss --shapes 3 4": (
        "mod:loss: cannot be called with (float32 of shape (3,), float32 of shape (4,)): TypeError: loss() takes 1 pos"
    ),
    "explain mod:product --shapes 3,4 3": (
        "mod:product: cannot be called with (float32 of shape (3, 4), float32 of shape (3,)): TypeError: "
    ),
    "check mod:refuses": "mod:refuses: cannot be called with (float32 of shape (3,)): RuntimeError: two (mod.py:13)",
    "check mod:loss --vjp mod:lss": "mod:lss: mod has no 'lss'; did you mean 'loss'?",
    "check mod:loss --vjp mod:not_a_pair": "TypeError: ",
    "check mod:loss --order 0": "--order: expected an integer of at least 1, got 0",
    "check mod:loss --seed -1": "--seed: expected an integer of at least 0, got -1",
    "check mod:loss --scale nan": "--scale: expected a finite number, got nan",
    "check mod:loss --json no/r.json": "--json: cannot write to no/r.json: No such file or directory",
    "explain mod:loss --html .": "--html: cannot write to .: Is a directory",
    "explain mod:loss": "mod:loss: expected --shapes, as in --shapes 3,4 4, or a function `arguments` beside it; got ",
    "find-nan mod:loss": "mod:loss: expected --shapes, as in --shapes 3,4 4, or a function `arguments` beside it; got ",
    "find-nan listed:f": "listed:arguments(): expected a tuple of arguments, got 3.0 (float)",
    "find-nan constant:f": "constant:arguments: expected a function without arguments, got 3 (int)",
    "derivations sigmoidd": "name: expected one of ",
    "derivations sigmoid --points 0": "--points: expected an integer of at least 1, got 0",
}


def test_a_mistake_is_answered_by_one_line(tmp_path, monkeypatch, capsys):
    files = {"mod": MODULE, "broken": BROKEN, "listed": LIST, "constant": CONSTANT, "syntax": SYNTAX}
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    wrong = []
    for command, said in MISTAKES.items():
        with pytest.raises(SystemExit) as stop:
            main(command.split())
        out, err = capsys.readouterr()
        if stop.value.code != 2 or out or len(err.splitlines()) != 1 or not err.startswith(said):
            wrong.append((command, stop.value.code, out, err))
    assert not wrong, wrong
    assert sorted(path.name for path in Path().glob("*.json")) == []  # what could be written is not left there


def test_what_can_be_written_stays_as_it_was(tmp_path):
    from functional_dl.__main__ import writable

    kept, new = tmp_path / "kept.json", tmp_path / "new.json"
    kept.write_text("kept")
    writable(json=str(kept), html=str(new), dot="")
    assert kept.read_text() == "kept"
    assert not new.exists()
