"""In PyTorch: the same networks by `torch.nn`, Adam and the usual loop, on its own threads."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from experiments.contenders import tasks


class LastRow(nn.Module):
    """An LSTM over rows, read at the last."""

    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.LSTM(8, 64, batch_first=True), nn.Linear(64, 10)

    def forward(self, x):
        return self.out(self.cell(x)[0][:, -1])


class Causal(nn.Module):
    """Two blocks of causal attention, normalised before each part."""

    def __init__(self):
        super().__init__()
        self.embed, self.positions = nn.Embedding(17, 32), nn.Parameter(0.2 * torch.randn(64, 32))
        block = nn.TransformerEncoderLayer(32, 4, 128, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, nn.LayerNorm(32), enable_nested_tensor=False)
        self.out = nn.Linear(32, 17)

    def forward(self, tokens):
        length = tokens.shape[1]
        x = 32**0.5 * self.embed(tokens) + self.positions[:length]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        return self.out(self.blocks(x, mask=mask, is_causal=True))


def network(task: str) -> nn.Module:
    pooled = lambda before, after: (nn.Conv2d(before, after, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2))
    if task == "perceptron":
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    if task == "convolutional":
        return nn.Sequential(*pooled(1, 16), *pooled(16, 32), nn.Flatten(), nn.Linear(128, 64), nn.ReLU(),
                             nn.Linear(64, 10))  # fmt: skip
    return LastRow() if task == "LSTM" else Causal()


def build(task: str, batch_size: int, steps: int) -> Callable[[], Any]:
    torch.manual_seed(0)
    model = network(task)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    x, *labels = tasks.arrays(task)
    if task == "convolutional":
        x = np.moveaxis(x, -1, 1)
    x = torch.tensor(x, dtype=torch.int64 if task == "transformer" else torch.float32)
    y = torch.tensor(np.argmax(labels[0], 1)) if labels else None
    compare = nn.CrossEntropyLoss()

    def train():
        model.load_state_dict(start)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        draws, history, order = torch.Generator().manual_seed(0), [], torch.zeros(0, dtype=torch.int64)
        for _ in range(steps):
            if len(order) < batch_size:
                order = torch.randperm(len(x), generator=draws)
            chosen, order = order[:batch_size], order[batch_size:]
            if y is None:
                loss = compare(model(x[chosen, :-1]).flatten(0, 1), x[chosen, 1:].flatten())
            else:
                loss = compare(model(x[chosen]), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(loss.detach())
        return torch.stack(history).numpy()

    return train
