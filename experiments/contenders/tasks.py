"""What is trained: scikit-learn's digits, 8 x 8, as rows, images, sequences of rows and sequences of 17 values."""

import numpy as np

TASKS = ("perceptron", "convolutional", "LSTM", "transformer")


def arrays(task: str) -> tuple[np.ndarray, ...]:
    """(inputs, labels one-hot); of the transformer (tokens,), each to be told from those before it."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    if task == "transformer":
        return (raw.data.astype(np.int32),)
    x = (raw.data / 16).astype(np.float32)
    shape = {"perceptron": (-1, 64), "convolutional": (-1, 8, 8, 1), "LSTM": (-1, 8, 8)}[task]
    return x.reshape(shape), np.eye(10, dtype=np.float32)[raw.target]
