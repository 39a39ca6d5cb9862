"""An experiment put where experiments are looked for."""


def make_experiment(tmp_path, monkeypatch, body: str, name: str = "fresh"):
    """Puts a new file where experiments are looked for."""
    import experiments

    (tmp_path / f"{name}.py").write_text(body, encoding="utf-8")
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(tmp_path)])


FRESH = '''"""About."""
from dataclasses import dataclass
from experiments.framework import style
from experiments.framework.result import Check, Picture, Result, Table
CLAIM = "Twice two is five."
@dataclass(frozen=True)
class Config:
    """Settings."""
    number: int = 2
    """What is doubled."""
SMOKE = Config()
def run(config):
    if config.number < 0:
        raise ValueError("number: expected >= 0")
    value = 2 * config.number
    return Result(CLAIM, [Check("2n is 5", str(value), value == 5)], {"<value>": value, "nan": float("nan")},
                  [{"value": float("inf")}], Table(["a&b"], [[value]]))
def plot(result):
    figure = style.figure(2, 2)
    figure.subplots().plot([0, 1])
    return [Picture("line", "A <line> & more.", figure)]
'''
