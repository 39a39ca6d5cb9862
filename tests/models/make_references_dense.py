"""Makes references_dense.json: PyTorch's values and cotangents of the networks of dense layers and of the GAN, float64.

    pip install torch && python -m tests.models.make_references_dense

Layouts are PyTorch's: weights (out, in), images (batch, channels, height, width).
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Normal, kl_divergence

from tests.pytorch_references import References, draw

REFERENCES = References()
reference = REFERENCES.add


def numbers(*shape):
    return draw(*shape, decimals=3)


def dense(*sizes, prefix=""):
    """w0, b0, w1, b1, ... of dense layers of these sizes."""
    found = {}
    for l, (n, m) in enumerate(pairwise(sizes)):
        found |= {f"{prefix}w{l}": numbers(m, n), f"{prefix}b{l}": numbers(m)}
    return found


def perceptron(x, weights, activation, prefix=""):
    depth = sum(name.startswith(f"{prefix}w") for name in weights)
    for l in range(depth):
        x = F.linear(x, weights[f"{prefix}w{l}"], weights[f"{prefix}b{l}"])
        x = activation(x) if l < depth - 1 else x
    return x


reference("linear", F.linear, input=numbers(4, 3), weight=numbers(2, 3), bias=numbers(2))
reference(
    "logistic, binary, cross-entropy",
    lambda x, w, b, t: F.binary_cross_entropy_with_logits(F.linear(x, w, b), t, reduction="none"),
    x=numbers(4, 3),
    w=numbers(1, 3),
    b=numbers(1),
    t=torch.rand(4, 1),
)
reference(
    "logistic, classes, cross-entropy",
    lambda x, w, b, labels: F.cross_entropy(F.linear(x, w, b), labels, reduction="none"),
    x=numbers(4, 3),
    w=numbers(5, 3),
    b=numbers(5),
    labels=torch.tensor([0, 4, 2, 2]),
)
reference(
    "logistic, probabilities",
    lambda x, w, b: F.softmax(F.linear(x, w, b), -1),
    x=numbers(2, 3),
    w=numbers(4, 3),
    b=numbers(4),
)
for name in ("relu", "tanh", "gelu", "silu"):
    activation = getattr(F, name)
    reference(f"mlp, {name}", lambda x, **w: perceptron(x, w, activation), x=numbers(2, 3, 4), **dense(4, 5, 3, 2))
reference(
    "autoencoder, sigmoid",
    lambda x, **w: torch.sigmoid(perceptron(perceptron(x, w, torch.tanh, "e"), w, torch.tanh, "d")),
    x=numbers(3, 5),
    **dense(5, 4, 2, prefix="e"),
    **dense(2, 4, 5, prefix="d"),
)


def variational(likelihood):
    def loss(x, noise, **w):
        m, s = perceptron(x, w, F.relu, "e").chunk(2, -1)
        q = Normal(m, torch.exp(s / 2))
        p = likelihood(perceptron(q.loc + q.scale * noise, w, F.relu, "d"))
        return kl_divergence(q, Normal(0.0, 1.0)).sum(-1) - p.log_prob(x).sum(-1)

    return loss


for name, likelihood, x in (
    ("bernoulli", lambda z: Bernoulli(logits=z, validate_args=False), torch.rand(3, 5)),
    ("gaussian", lambda z: Normal(z, 1.0), numbers(3, 5)),
):
    reference(
        f"vae, {name}",
        variational(likelihood),
        x=x,
        noise=numbers(3, 2),
        **dense(5, 4, 4, prefix="e"),
        **dense(2, 4, 5, prefix="d"),
    )


# images of (1, 16, 16), width 2, z of 3 entries
def generator(z, w0, b0, **p):
    a = F.linear(z, w0, b0).reshape(-1, 4, 4, 4)
    for i in range(2):
        a = F.relu(F.group_norm(a, 1, p[f"scale{i}"], p[f"shift{i}"]))
        a = F.conv_transpose2d(a, p[f"k{i}"], p[f"c{i}"], stride=2, padding=1)
    return torch.tanh(a)


def critic(x, k0, c0, k1, c1, w0, b0, scale=None, shift=None):
    a = F.leaky_relu(F.conv2d(x, k0, c0, stride=2, padding=1), 0.2)
    a = F.conv2d(a, k1, c1, stride=2, padding=1)
    a = a if scale is None else F.group_norm(a, 1, scale, shift)
    return F.linear(F.leaky_relu(a, 0.2).flatten(1), w0, b0)[:, 0]


def penalty(x, **p):
    (bar,) = torch.autograd.grad(critic(x, **p).sum(), x, create_graph=True)
    return (bar.flatten(1).norm(dim=1) - 1) ** 2


def of_critic(normed):
    found = {"k0": numbers(2, 1, 4, 4), "c0": numbers(2), "k1": numbers(4, 2, 4, 4), "c1": numbers(4), **dense(64, 1)}
    return found | ({"scale": numbers(4), "shift": numbers(4)} if normed else {})


reference(
    "gan, generator",
    generator,
    z=numbers(2, 3),
    **dense(3, 64),
    scale0=numbers(4),
    shift0=numbers(4),
    k0=numbers(4, 2, 4, 4),
    c0=numbers(2),
    scale1=numbers(2),
    shift1=numbers(2),
    k1=numbers(2, 1, 4, 4),
    c1=numbers(1),
)
reference("gan, critic", critic, x=numbers(2, 1, 16, 16), **of_critic(True))
reference("gan, penalty", penalty, x=numbers(2, 1, 16, 16), **of_critic(True))
reference("gan, penalty, no norm", penalty, x=numbers(1, 1, 16, 16), **of_critic(False))

if __name__ == "__main__":
    REFERENCES.write(__file__, "references_dense.json")
