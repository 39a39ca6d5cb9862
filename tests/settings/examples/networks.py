"""models: the deep networks, at parameters with which each is known on paper."""

import math

import jax
import numpy as np

from functional_dl import models
from tests.settings.values import Example


def _given(v, model, **changes):
    """Parameters of the model's form: 0, norms' scales 1, and those given by their path, a/b/0/c written a__b__0__c."""
    paths = {name.replace("__", "/"): value for name, value in changes.items()}

    def of(path, leaf):
        name = "/".join(str(getattr(part, "key", getattr(part, "idx", None))) for part in path)
        known = paths.pop(name, np.ones(leaf.shape) if name.endswith("scale") else np.zeros(leaf.shape))
        return v.array(np.asarray(known, float).reshape(leaf.shape))

    params = jax.tree_util.tree_map_with_path(of, jax.eval_shape(model.init, jax.random.key(0)))
    assert not paths, paths
    return params


def _cnn(v):
    """Twice x, the mean of both places, plus 1/2: of (1, 3), 4.5.  With a norm of mean 4 and variance 4 - 3: -1, 1."""
    options = {"stages": [[1]], "window": 1, "hidden": [], "activation": "identity"}
    model = models.cnn((2,), 1, 1, **options)
    x = v.batch([[[1.0], [3.0]]])
    params = _given(v, model, stages__0__0__conv__weight=2.0, head__0__weight=1.0, head__0__bias=0.5)
    normed = models.cnn((2,), 1, 1, batch_norm=True, momentum=0.0, epsilon=12.0, pool="max", **options)
    given = _given(v, normed, stages__0__0__conv__weight=2.0, head__0__weight=1.0)
    moments, y = normed.apply(given, normed.initial(), x)
    right = {"stages": [[{"norm": {"mean": np.array([4.0]), "variance": np.array([4.0])}}]]}, np.array([[0.5]])
    return (model.apply(params, x), (moments, y)), (np.array([[4.5]]), right)


def _resnet(v):
    """In use, by mean 0 and variance 1 with epsilon 3: the stem halves x, the block adds a quarter of that to it."""
    model = models.resnet(4, 1, 1, widths=(1,), axes=1, epsilon=3.0)
    center = [0.0, 1.0, 0.0]
    params = _given(
        v,
        model,
        stem__conv__weight=center,
        stages__0__0__conv1__weight=center,
        stages__0__0__conv2__weight=center,
        head__weight=8.0,
    )
    _, y = model.apply(params, model.initial(), v.batch([[[1.0], [3.0]]]), deterministic=True)
    return y, np.array([[10.0]])


def _recurrent(v):
    """W = 1, U = 0, b = 1/2, of which the second step is past the length; and the last step of a carry that is lost."""
    model = models.recurrent(1, 1, 1, "rnn")
    params = _given(v, model, layers__0__input__weight=1.0, layers__0__input__bias=0.5, head__weight=1.0)
    y = model.apply(params, v.batch([[[0.5], [1.0]]]), v.integers([1]))
    _, more = model.extend(params, [v.batch([[0.3]])], v.batch([[[1.0]]]))
    return (y, more), (np.array([[math.tanh(1.0)]]), np.array([[math.tanh(1.5)]]))


def _transformer(v):
    """Token 1 is (1, -1) and token 0 the opposite; attention to itself, a first token, adds norm x = x / 2.

    Then norm (3/2, -3/2) = (3/2, -3/2) / sqrt(9/4 + 3), and the logits are the opposite token's: 1, 0, 1, 0, ...
    """
    model = models.transformer(2, 2, 1, 1, 4, positions="rotary", epsilon=3.0)
    of = 1 / math.sqrt(2)  # E is scaled by sqrt(2)
    params = _given(
        v,
        model,
        embedding__weight=[[-of, of], [of, -of]],
        blocks__0__attention__value__weight=np.eye(2),
        blocks__0__attention__output__weight=np.eye(2),
        head__weight=[[1.0, 0.0], [0.0, 1.0]],
    )
    ids = v.integers([[1]])
    logits = 1.5 / math.sqrt(1.5**2 + 3)
    _, cached = model.extend(params, model.initial((1,), 1), ids)
    drawn = model.generate(params, v.key(), ids, 3, 0.0)
    right = np.array([[[logits, -logits]]])
    return (model.apply(params, ids), cached, drawn), (right, right, np.array([[0, 1, 0]]))


EXAMPLES = {
    "models.cnn": Example(_cnn),
    "models.resnet": Example(_resnet),
    "models.recurrent": Example(_recurrent),
    "models.transformer": Example(_transformer, heavy=True),
}
