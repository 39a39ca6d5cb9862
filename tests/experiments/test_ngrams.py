"""The n-grams of `language`: worked out on paper, summing to one, and found twice by different ways."""

import numpy as np
import pytest

from experiments.cases import ngrams

PAPER = {  # text abab over the alphabet abc: p(a), p(b), p(c), and p(a | b), p(b | a), each seen as below
    "Witten-Bell": ([4 / 9, 4 / 9, 1 / 9], [13 / 18, 22 / 27, 1 / 27]),
    "Kneser-Ney": (None, [20 / 27, 1.5 / 2 + 0.5 / 2 * 10 / 27, 0.5 / 2 * 4 / 27]),
}


@pytest.mark.parametrize("smoothing", PAPER)
def test_on_paper(smoothing):
    """Kneser-Ney, order 2: a follows 2 different characters (b and the beginning), b 1; D_1 = 1/3, D_2 = 1 of these
    counts, so p(a) = 13/27, p(b) = 10/27, p(c) = 4/27; of the pairs' counts D_1 = D_2 = 1/2."""
    single, pair = PAPER[smoothing]
    train = np.array([0, 1, 0, 1])
    judge = lambda judged, order: ngrams.probabilities(ngrams.Counted(train, np.array(judged), 3, 2), smoothing)[order]
    if single is not None:
        np.testing.assert_allclose([judge([c], 0)[0] for c in range(3)], single, rtol=1e-14)
    a, b = judge([0, 1], 1)
    _, c = judge([0, 2], 1)
    np.testing.assert_allclose([a, b, c], pair, rtol=1e-14)


@pytest.mark.parametrize("smoothing", ngrams.SMOOTHINGS)
def test_by_counting_and_by_search(smoothing):
    """`sampler` looks contexts up in the text; over the alphabet its law sums to one, with unseen characters too."""
    rng = np.random.default_rng(0)
    train, judged = rng.integers(0, 4, 200), rng.integers(0, 5, 30)
    text = np.concatenate([train, judged])
    for order, p in enumerate(ngrams.probabilities(ngrams.Counted(train, judged, 5, 4), smoothing), 1):
        law = ngrams.sampler(train, 5, smoothing, order)
        laws = np.stack([law(text[: 200 + i]) for i in range(30)])
        np.testing.assert_allclose(laws.sum(1), 1.0, rtol=1e-13)
        np.testing.assert_allclose(laws[np.arange(30), judged], p, rtol=1e-13)
    assert laws.min() > 0
    drawn = ngrams.sample(law, train[:3], 2000, 0)
    followed = np.bincount(drawn, minlength=5) / 2000
    assert followed[4] < 0.02 < followed[:4].min()


def test_windows_judge_each_character_once_with_the_longest_context():
    from experiments.language import _windows

    for count in (9, 23, 24, 25):
        test = np.arange(count)
        windows, weights = _windows(8, test)
        assert sorted(windows[:, 1:][weights == 1].tolist()) == list(range(1, count))
        assert set(np.unique(weights)) <= {0.0, 1.0}
        place = {int(c): int(i) for row, weight in zip(windows, weights) for i, c in enumerate(row[1:]) if weight[i]}
        assert all(place[c] >= min(c - 1, 4) for c in range(1, count))


def test_the_text_is_the_same_everywhere():
    from experiments.language import _names

    names = _names()
    assert len(names) == 12886
    assert sum(map(len, names)) + len(names) == 354744
    assert (names[0], names[33], names[-1]) == ("SPACE", "LATIN CAPITAL LETTER A", "CANCEL TAG")
