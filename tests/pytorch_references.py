"""Makes files of references with PyTorch, in float64: what references.py reads.  No test imports this."""

import json
from pathlib import Path

import torch

torch.set_default_dtype(torch.float64)


class References:
    """Cases by name, to be written into one file."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.cases = {}

    def add(self, name, fun, **inputs):
        """The value of fun of these inputs, and the cotangents of the floating ones for a cotangent that is drawn."""
        for x in inputs.values():
            if x.is_floating_point():
                x.requires_grad_()
        out = fun(**inputs)
        ct = torch.randn_like(out)
        floating = {k: x for k, x in inputs.items() if x.is_floating_point()}
        bars = torch.autograd.grad(out, list(floating.values()), ct, allow_unused=True, materialize_grads=True)
        self.cases[name] = {
            "inputs": {k: x.tolist() for k, x in inputs.items()},
            "out": out.tolist(),
            "ct": ct.tolist(),
            "bars": {k: bar.tolist() for k, bar in zip(floating, bars)},
        }

    def write(self, beside, name):
        """Writes the cases into a file beside the script."""
        Path(beside).with_name(name).write_text(json.dumps({"torch": torch.__version__, "cases": self.cases}))
        print(len(self.cases), "references")


def draw(*shape, decimals=None):
    """Normal numbers; rounded to so many decimals they take less room."""
    x = torch.randn(*shape)
    return x if decimals is None else x.round(decimals=decimals)
