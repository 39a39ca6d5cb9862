"""Interpolated n-grams: probabilities of characters by counts of what followed the characters before.

Witten and Bell 1991: with n(h) characters after the context h, T(h) different ones among them, h' the context without
its first character,

    p(c | h) = (n(h c) + T(h) p(c | h')) / (n(h) + T(h)).

Kneser and Ney 1995, interpolated, with Chen and Goodman's (1999) three discounts D_1, D_2, D_3 of each order:

    p(c | h) = (n(h c) - D(n(h c)) + D(h) p(c | h')) / n(h),    D(h) = sum over c of D(n(h c)),

n counting occurrences at the highest order, and at the others the different characters that stand before h c. Both
end in the uniform law over the alphabet, and hand on p(c | h') where h never occurred.
"""

import numpy as np

SMOOTHINGS = ("Witten-Bell", "Kneser-Ney")
LEAST = 0.01  # discount: one of 0 would leave no probability to what never occurred


class Counted:
    """Contexts of a text of which the first `train` characters are counted and the others are judged.

    context[k][i] numbers the k characters before place i, joint[k][i] those together with the character at i; equal
    numbers mean equal characters.
    """

    def __init__(self, train: np.ndarray, judged: np.ndarray, alphabet: int, orders: int):
        text = np.concatenate([train, judged]).astype(np.int64)
        self.train, self.alphabet = len(train), alphabet
        self.context, self.joint = [], []
        context = np.zeros(len(text), np.int64)
        for k in range(orders):
            self.context.append(context)
            self.joint.append(context * alphabet + text)
            # before the text's beginning stands a character of its own
            before = np.concatenate([np.full(k + 1, alphabet), text])[: len(text)]
            _, context = np.unique(context * (alphabet + 1) + before, return_inverse=True)


def probabilities(counted: Counted, smoothing: str) -> list[np.ndarray]:
    """p of each judged character given the order - 1 characters before it, for each order from 1 on."""
    lower = np.full(len(counted.context[0]) - counted.train, 1 / counted.alphabet)
    found = []
    for k in range(len(counted.context)):
        found.append(_mixed(counted, smoothing, k, True, lower))
        if smoothing == "Witten-Bell":
            lower = found[-1]
        elif k + 1 < len(counted.context):
            lower = _mixed(counted, smoothing, k, False, lower)
    return found


def _mixed(counted: Counted, smoothing: str, k: int, highest: bool, lower: np.ndarray) -> np.ndarray:
    """p(c | h), h of k characters, from p(c | h')."""
    kinds, n, taken = _counts(counted, smoothing, k, highest)
    contexts, place = np.unique(kinds // counted.alphabet, return_inverse=True)
    left = np.bincount(place, taken)
    total = np.bincount(place, n) + (left if smoothing == "Witten-Bell" else 0)
    kept = n if smoothing == "Witten-Bell" else n - taken
    context, joint = counted.context[k][counted.train :], counted.joint[k][counted.train :]
    left, total = _looked_up(contexts, left, context), _looked_up(contexts, total, context)
    return np.where(total > 0, (_looked_up(kinds, kept, joint) + left * lower) / np.maximum(total, 1), lower)


def _counts(counted: Counted, smoothing: str, k: int, highest: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different h c of k + 1 characters, their n, and what each leaves to the shorter context: 1, or D(n)."""
    seen = counted.joint[k][: counted.train]
    if smoothing == "Kneser-Ney" and not highest:  # each pair of a character before and h c once
        seen = seen[np.unique(counted.joint[k + 1][: counted.train], return_index=True)[1]]
    kinds, n = np.unique(seen, return_counts=True)
    return kinds, n, np.ones(len(n)) if smoothing == "Witten-Bell" else _discounts(n)[np.minimum(n, 3) - 1]


def _discounts(n: np.ndarray) -> np.ndarray:
    """D_1, D_2, D_3 of counts n: D_i = i - (i + 1) Y N_{i+1} / N_i, Y = N_1 / (N_1 + 2 N_2), N_i counts being i."""
    ones, twos, threes, fours = (max(1, np.count_nonzero(n == i)) for i in (1, 2, 3, 4))
    y = ones / (ones + 2 * twos)
    d = [1 - 2 * y * twos / ones, 2 - 3 * y * threes / twos, 3 - 4 * y * fours / threes]
    return np.clip(d, LEAST, [1, 2, 3])


def _looked_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """values at the places where keys, which are sorted, equal what is wanted, 0 where none does."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0.0)


def sampler(train: np.ndarray, alphabet: int, smoothing: str, order: int):
    """history -> p of every character after it, from the same law; finds the contexts in the text, one at a time."""
    counted = Counted(train, train[:0], alphabet, order)
    discounts = [_discounts(_counts(counted, smoothing, k, k == order - 1)[1]) for k in range(order)]

    def law(history: np.ndarray) -> np.ndarray:
        p, after = np.full(alphabet, 1 / alphabet), np.arange(len(train))
        for k in range(min(order, len(history) + 1)):
            if k:  # places behind the last k characters of the history
                after = after[after >= k]
                after = after[train[after - k] == history[-k]]
            if not len(after):
                break
            if smoothing == "Witten-Bell" or k == order - 1:
                n = np.bincount(train[after], minlength=alphabet)
            else:
                before = np.where(after > k, train[after - k - 1], alphabet)
                n = np.bincount(np.unique(before * alphabet + train[after]) % alphabet, minlength=alphabet)
            if smoothing == "Witten-Bell":
                different = np.count_nonzero(n)
                p = (n + different * p) / (n.sum() + different)
            else:
                taken = np.where(n > 0, discounts[k][np.clip(n, 1, 3) - 1], 0)
                p = (n - taken + taken.sum() * p) / n.sum()
        return p

    return law


def sample(law, prompt: np.ndarray, steps: int, seed: int) -> np.ndarray:
    """Characters after the prompt, drawn one after the other."""
    rng, text = np.random.default_rng(seed), list(prompt)
    for _ in range(steps):
        p = law(np.array(text))
        text.append(rng.choice(len(p), p=p / p.sum()))
    return np.array(text[len(prompt) :])
