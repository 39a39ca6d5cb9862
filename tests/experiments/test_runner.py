"""What runs the experiments: settings from files, what is not run again, what stopping leaves, two runs compared."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.framework import compare, config_file, fingerprint, registry, runner
from tests.experiments.planted import FRESH, make_experiment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A folder of experiments with one that counts its runs."""
    folder = tmp_path / "code"
    folder.mkdir()
    body = FRESH.replace("def run(config):", "RUNS = []\ndef run(config):\n    RUNS.append(config.number)")
    make_experiment(folder, monkeypatch, body, "counted_one")
    monkeypatch.delitem(sys.modules, "experiments.counted_one", raising=False)
    return folder


def test_what_is_finished_is_run_again_only_if_something_changed(code, tmp_path, capsys, monkeypatch):
    out = str(tmp_path / "out")
    runs = lambda: list(registry.load("counted_one").module.RUNS)
    run = lambda *more: main(["counted_one", "--results", out, *more])
    assert run() == 1
    assert run() == 1  # its verdict stays: not borne out
    assert runs() == [2]
    assert "unchanged since" in capsys.readouterr().out
    run("--number", "3")
    run("--number", "3", "--fresh")
    assert runs() == [2, 3, 3]
    monkeypatch.setattr(fingerprint, "versions", lambda: {"jax": "0"})
    run("--number", "3")
    assert runs() == [2, 3, 3, 3]
    (code / "counted_one.py").write_text((code / "counted_one.py").read_text() + "\n# changed\n")
    fingerprint._imports.cache_clear()
    run("--number", "3")
    assert runs() == [2, 3, 3, 3, 3]


def test_code_is_the_import_graph(tmp_path):
    """A fingerprint reads the experiment's helpers and the rooms that it calls, no others, nor what shows results."""
    (tmp_path / "one.py").write_text("def run():\n    from functional_dl import penalties")
    (tmp_path / "two.py").write_text("import functional_dl.penalties as p")
    reached = fingerprint.files(tmp_path / "one.py")
    assert {"functional_dl/penalties.py", "functional_dl/tree.py", "functional_dl/arguments.py"} <= set(reached)
    assert not [name for name in reached if name.startswith(("functional_dl/reverse", "functional_dl/optimality"))]
    assert set(fingerprint.files(tmp_path / "two.py")) - {"two.py"} == set(reached) - {"one.py"}
    digits = fingerprint.files(registry.discover()["digits"].path)
    assert {"functional_dl/reverse/rules/algebra.py", "experiments/framework/statistics.py"} <= set(digits)
    assert "experiments/framework/page.py" not in digits
    assert not [name for name in digits if name.startswith(("functional_dl/optimality", "experiments/kkt"))]


def test_a_preset_has_its_settings_and_its_suite(code, monkeypatch):
    body = FRESH.replace("SMOKE =", 'SUITE = "standard"\nQUICK = Config(number=1)\nFULL = Config(number=9)\nSMOKE =')
    make_experiment(code, monkeypatch, body, "preset_one")
    experiment = registry.load("preset_one")
    assert [experiment.settings(preset).number for preset in registry.PRESETS] == [1, 2, 9]
    assert [experiment.in_suite(preset) for preset in registry.PRESETS] == [False, True, True]


def test_a_file_gives_settings_and_a_result_repeats_itself(code, tmp_path, capsys):
    file = tmp_path / "settings.toml"
    file.write_text('preset = "full"\n[counted_one]\nnumber = 5\n')
    out = tmp_path / "out"
    main(["--config", str(file), "--results", str(out), "--jobs", "1"])  # of the suite, what the file names
    main(["counted_one", "--config", str(file), "--results", str(tmp_path / "other"), "--number", "6"])
    main(["--config", str(out / "counted_one/config.json"), "--results", str(tmp_path / "again")])
    assert registry.load("counted_one").module.RUNS == [5, 6, 5]
    assert "1 of 1" not in capsys.readouterr().out


@dataclasses.dataclass(frozen=True)
class Many:
    number: int = 1
    rate: float = 1.0
    sizes: tuple[int, ...] = ()
    pair: tuple[int, float] = (1, 1.0)
    on: bool = False

    def __post_init__(self):
        if self.number < 0:
            raise ValueError("number: expected >= 0")


def test_settings_have_their_types(tmp_path):
    said = config_file.ConfigFile(Path("f"), None, {"x": {"rate": 2, "sizes": [1, 2], "pair": [3, 4], "on": True}})
    assert said.apply("x", Many()) == Many(1, 2.0, (1, 2), (3, 4.0), True)


BAD_FILES = [
    ("preset = 'quik'", r"f.toml: preset: expected one of quick, standard, full, got 'quik'"),
    ("[digit]", r"f.toml: digit: no such experiment; did you mean 'digits'\?"),
    ("digits = 3", r"f.toml: digits: expected a table of settings, got 3"),
    ("[digits", r"f.toml: Expected ']' at the end of a table declaration"),
    ("[digits]\nepoch = 3", r"f.toml: digits.epoch: no such setting; did you mean 'epochs'\? there are "),
    ("[digits]\nepochs = 3.5", r"f.toml: digits.epochs: expected int, got 3.5"),
    ("[digits]\nepochs = true", r"f.toml: digits.epochs: expected int, got True"),
    ("[digits]\nhidden = ['a']", r"f.toml: digits.hidden: expected int, got 'a'"),
    ("[digits]\nseeds = 1", r"f.toml: digits: seeds: expected a number of at least 2, got 1"),
    (None, r"f.toml: No such file"),
]


def test_a_wrong_file_is_explained(tmp_path, monkeypatch, capsys):
    import re

    monkeypatch.chdir(tmp_path)
    for text, message in BAD_FILES:
        Path("f.toml").unlink(missing_ok=True)
        if text is not None:
            Path("f.toml").write_text(text)
        assert main(["--config", "f.toml"]) == 2, text
        said = capsys.readouterr().err.splitlines()
        assert re.search(message, said[0]), (text, said)
        assert len(said) == 1


def test_results_are_known_to_be_writable_before_the_work(code, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["counted_one", "--results", str(tmp_path / "file")]) == 2
    assert "--results: cannot write to" in capsys.readouterr().err
    assert registry.load("counted_one").module.RUNS == []


def test_compare(code, tmp_path, capsys):
    experiment = registry.load("counted_one")
    a, b = tmp_path / "a", tmp_path / "b"
    runner.run(experiment, experiment.module.Config(), a)
    runner.run(experiment, experiment.module.Config(), b)
    assert main(["compare", str(a), str(b)]) == 0
    assert "1 of 1 experiments are the same in both" in capsys.readouterr().out
    runner.run(experiment, experiment.module.Config(number=3), b)
    assert main(["compare", str(a), str(b / "counted_one")]) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["counted_one", "setting", "number", "2", "3", "+1", "(+50.00%)"] in lines
    assert ["counted_one", "<value>", "4", "6", "+2", "(+50.00%)"] in lines
    assert lines[-1][:3] == ["0", "of", "1"]
    assert main(["compare", str(a), str(tmp_path)]) == 2
    assert "expected a folder with results, found none" in capsys.readouterr().err
    one = compare.read(a)
    timed = {"counted_one": one["counted_one"] | {"timed": ["<value>"]}}
    other = {
        "counted_one": timed["counted_one"] | {"numbers": {"<value>": 9}, "seconds": 99.0, "folder": b / "counted_one"}
    }
    assert [line.figure for line in compare.lines(timed, other)] == ["nan"]  # which the other lacks; no times
    (b / "counted_one" / "metrics.jsonl").write_text('{"value": 1}\n{"value": "inf"}\n')
    metrics = compare.Line("counted_one", "metrics", "1 records", "2 records", "2 differ")
    assert compare.lines(timed, other)[-1] == metrics


def test_list_has_a_line_for_each(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = registry.discover()
    assert [line.split()[0] for line in lines] == list(found)
    assert len({line.index(found[line.split()[0]].claim) for line in lines}) == 1  # aligned


LIST_ONLY = "import sys; from experiments.__main__ import main; main(['list']); assert 'jax' not in sys.modules"


def test_the_list_imports_no_experiment():
    done = subprocess.run([sys.executable, "-c", LIST_ONLY], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# a process that computes: it hears no Ctrl-C, as a compiler does not
COMPUTES = """
import signal, time
from experiments.framework.journal import Journal
signal.signal(signal.SIGINT, signal.SIG_IGN)
Journal("", 3, results="out").end("digits", True).begin("svm")
print("ready", flush=True)
time.sleep(60)
"""
WATCHES = """
import sys
from experiments.framework import supervisor
supervisor.COMMAND = [sys.executable, "-c", {!r}]
sys.exit(supervisor.run([]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_line_after_a_stop(number):
    # tests that a shell runs in the background are born with Ctrl-C ignored
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    words = [sys.executable, "-c", heard + WATCHES.format(COMPUTES)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert (
        said == "stopped while svm ran; 1 of 3 finished and kept in out: digits; the same command goes on from there\n"
    )
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]


def test_it_goes_on_without_its_terminal_under_nohup():
    """SIGHUP ignored when it starts stays ignored."""
    ends = COMPUTES.replace("time.sleep(60)", "time.sleep(2)")
    before = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    words = [sys.executable, "-c", before + WATCHES.format(ends)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")


def test_one_line_after_a_death():
    computes = COMPUTES.replace("time.sleep(60)", "import os; os.kill(os.getpid(), signal.SIGSEGV)")
    words = [sys.executable, "-c", WATCHES.format(computes)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "the process died (SIGSEGV); stopped while svm ran; 1 of 3 finished and kept in out: "
    )
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.campaign
def test_a_suite_stopped_while_it_compiles_goes_on(tmp_path):
    """The real thing, on two processes: Ctrl-C while one is finished and another compiles; then the other is run."""
    words = [sys.executable, "-m", "experiments", "tangent", "lagrange", "--results", str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "tangent" / "result.json").exists():
            time.sleep(0.1)
            assert process.poll() is None
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    kept = f"stopped while lagrange ran; 1 of 2 finished and kept in {tmp_path}: tangent"
    assert said == f"{kept}; the same command goes on from there\n"
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "tangent: borne out (unchanged since" in done.stdout
    assert "lagrange: borne out (" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@pytest.mark.campaign
def test_a_process_that_dies_costs_no_other_experiment(tmp_path, monkeypatch):
    from experiments.framework import suite
    from experiments.framework.journal import Journal
    from experiments.framework.progress import bar

    found = registry.discover()
    tasks = [suite.Task(found[name], "quick", found[name].module.SMOKE, tmp_path, False) for name in ("tangent", "svm")]
    dies = dataclasses.replace(tasks[1], config=_Dies())
    with bar(2) as shown:
        outcomes = list(suite.run([dies, tasks[0]], 2, shown, Journal("", 2)))
    assert {outcome.said.splitlines()[0].partition(" (")[0] for outcome in outcomes} == {
        "svm: FAILED, RuntimeError: the process that ran it died",
        "tangent: borne out",
    }
    assert json.loads((tmp_path / "svm/result.json").read_text())["status"] == "failed"


@dataclasses.dataclass(frozen=True)
class _Dies:
    """Settings that end the process that receives them."""

    def __reduce__(self):
        import os

        return os._exit, (1,)
