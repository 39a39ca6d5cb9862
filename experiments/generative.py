"""A variational autoencoder and a Wasserstein GAN with gradient penalty on the 8 x 8 digits of scikit-learn.

The autoencoder (`models.vae`, Gaussian) has a density, so it is judged by it: the mean evidence lower bound of held-out
digits, in nats, against the exact log-likelihood of probabilistic PCA (Tipping and Bishop 1999) with as many latent
variables and its own best noise, fitted to the same training digits. The bound is below the network's log-likelihood, so
that the comparison favours PCA. The noise of the autoencoder is a setting, chosen without the held-out digits.

The GAN (`models.gan`, Wasserstein) has none. Its samples, and the autoencoder's, are judged by where they lie: the mean
squared distance to the nearest held-out digit, against that of samples of a Gaussian with the training digits' mean and
covariance; and by the entropy of the nearest training digits' labels, for a generator that draws one digit only would be
near to that one. At random labels it is log 10 = 2.30 nats.

Each seed draws its own split, weights, order and noise; all run at once (vmap). The pictures show what was drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.framework import settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval, plus_minus
from functional_dl import models

CLAIM = (
    "A variational autoencoder gives unseen digits a higher log-likelihood than probabilistic PCA with as many latent "
    "variables; and its samples and those of a Wasserstein GAN lie nearer to unseen digits than a Gaussian's, in all "
    "classes."
)
KINDS = {"autoencoder": style.BLUE, "GAN": style.GREEN, "Gaussian": style.RED, "unseen digits": style.BLACK}


@dataclass(frozen=True)
class Config:
    """Settings of the generative experiment."""

    seeds: int = 10
    """Splits, weights, orders and noise, run at once."""
    train: int = 1437
    """Digits to train on, of 1797; the others are held out."""
    batch_size: int = 64
    """Digits a step."""
    latent: int = 6
    """Latent variables of the autoencoder and of PCA."""
    hidden: int = 128
    """Units of the autoencoder's hidden layers."""
    noise: float = 0.15
    """Standard deviation of a pixel in [0, 1] given the latent variables."""
    vae_steps: int = 2000
    """Adam's steps of the autoencoder."""
    vae_learning_rate: float = 2e-3
    """Adam's rate at the start; it falls to 0 by a half cosine."""
    gan_latent: int = 16
    """Entries of the GAN's noise."""
    gan_width: int = 16
    """Channels of the GAN's maps."""
    gan_steps: int = 600
    """Steps of the generator."""
    critic_steps: int = 3
    """Steps of the critic for each."""
    gan_learning_rate: float = 2e-3
    """Adam's rate of both at the start; it falls to 0 by a half cosine."""
    samples: int = 400
    """Drawn of each generator to be judged."""

    def __post_init__(self):
        settings.at_least(self, 1, "batch_size", "latent", "hidden", "vae_steps", "gan_latent", "gan_width")
        settings.at_least(self, 1, "gan_steps", "critic_steps")
        settings.at_least(self, 2, "seeds")
        settings.at_least(self, 40, "samples")
        settings.positive(self, "noise", "vae_learning_rate", "gan_learning_rate")
        if not max(self.batch_size, 65) <= self.train < 1797:
            raise ValueError(f"train: expected from max(batch_size, 65) to 1796, got {self.train}")
        if self.latent > 63:
            raise ValueError(f"latent: expected at most 63, got {self.latent}")


SMOKE = Config(
    seeds=2, train=100, batch_size=10, latent=2, hidden=4, vae_steps=2, gan_latent=2, gan_width=2, gan_steps=2,
    critic_steps=1, samples=40,
)  # fmt: skip


def run(config: Config) -> Result:
    train, test, labels = _data(config)
    keys = jax.random.split(jax.random.key(0), config.seeds)
    vae = {name: np.asarray(values) for name, values in _train_vae(config)(keys, train, test).items()}
    gan = {name: np.asarray(values) for name, values in _train_gan(config)(keys, train).items()}
    pca = np.array([_pca_log_likelihood(a, b, config.latent) for a, b in zip(train, test)])
    drawn = {
        "autoencoder": vae["samples"],
        "GAN": gan["samples"],
        "Gaussian": np.stack([_gaussian(seed, x, config.samples) for seed, x in enumerate(train)]),
    }
    distance = {name: np.array([_nearest(s, x)[0].mean() for s, x in zip(x_s, test)]) for name, x_s in drawn.items()}
    distance["unseen digits"] = np.array([_nearest(a, b)[0].mean() for a, b in zip(test, train)])
    entropy = {
        name: np.array([_entropy(y[_nearest(s, x)[1]]) for s, x, y in zip(x_s, train, labels)])
        for name, x_s in drawn.items()
    }
    gain, half = mean_interval(vae["elbo"] - pca)
    checks = [
        Check(
            "held-out digits: the autoencoder's bound above PCA's log-likelihood, 95 % interval of the gain above 0",
            f"{gain:.2f} ± {half:.2f} nats a digit",
            bool(gain - half > 0),
        )
    ]
    for name in ("autoencoder", "GAN"):
        ratio, half = mean_interval(distance[name] / distance["Gaussian"])
        checks += [
            Check(
                f"{name}: mean squared distance to the nearest unseen digit at most 0.8 of the Gaussian's samples'",
                f"{ratio:.2f} ± {half:.2f} of it",
                bool(ratio + half <= 0.8),
            ),
            Check(
                f"{name}: entropy of the samples' classes at least 2 of {np.log(10):.2f} nats, every seed",
                f"{entropy[name].min():.2f} at least",
                bool(entropy[name].min() >= 2),
            ),
        ]
    numbers = {
        "bound of the autoencoder, nats a digit": plus_minus(vae["elbo"]),
        "log-likelihood of PCA, nats a digit": plus_minus(pca),
    }
    numbers |= {f"squared distance to the nearest digit, {name}": plus_minus(d, 1, 3) for name, d in distance.items()}
    metrics = [
        {"seed": seed, "elbo": vae["elbo"][seed], "pca": pca[seed]}
        | {f"distance, {name}": values[seed] for name, values in distance.items()}
        | {f"entropy, {name}": values[seed] for name, values in entropy.items()}
        for seed in range(config.seeds)
    ]
    rows = [
        [name, plus_minus(distance[name], 1, 3), plus_minus(entropy[name]) if name in entropy else ""] for name in KINDS
    ]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers=numbers | {"seeds": config.seeds},
        metrics=metrics,
        table=Table(["drawn from", "squared distance to the nearest digit", "entropy of the classes (nats)"], rows),
        curves={
            "drawn": drawn | {"unseen digits": test},
            "distance": distance,
            "elbo": vae["elbo"],
            "pca": pca,
            "vae_history": vae["history"],
            "gan_history": gan["history"],
        },
    )


# ---- data, training ------------------------------------------------------------------------------------


def _data(config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training digits and held-out ones (seeds, digits, 64), in [0, 1], and the training digits' labels."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = np.stack([np.random.default_rng(seed).permutation(len(raw.target)) for seed in range(config.seeds)])
    x = (raw.data / 16).astype(np.float32)[order]
    return x[:, : config.train], x[:, config.train :], raw.target[order][:, : config.train]


def _adam(rate: float, steps: int, **options) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(rate, steps), **options)


def _train_vae(config: Config):
    """(keys, train, test) -> losses, bound of the test digits in nats of pixels in [0, 1], samples; of each seed."""
    model = models.vae((64, config.hidden, config.latent), likelihood="gaussian")
    optimizer = _adam(config.vae_learning_rate, config.vae_steps)

    def loss(params, x, key):  # its noise has variance 1, so that pixels are measured in it
        return jnp.mean(model.loss(params, x / config.noise, key=key))

    def one_seed(key, train, test):
        init_key, run_key, test_key, sample_key = jax.random.split(key, 4)
        params = model.init(init_key)

        def step(state, key):
            params, memory = state
            batch_key, noise_key = jax.random.split(key)
            x = train[jax.random.randint(batch_key, (config.batch_size,), 0, config.train)]
            value, grads = jax.value_and_grad(loss)(params, x, noise_key)
            updates, memory = optimizer.update(grads, memory, params)
            return (optax.apply_updates(params, updates), memory), value

        start = params, optimizer.init(params)
        (params, _), history = jax.lax.scan(step, start, jax.random.split(run_key, config.vae_steps))
        bound = -jnp.mean(jax.lax.map(lambda key: loss(params, test, key), jax.random.split(test_key, 32)))
        return {
            "history": history + 64 * jnp.log(config.noise),
            "elbo": bound - 64 * jnp.log(config.noise),  # the density of x is that of x / noise, over noise^64
            "samples": config.noise * model.sample(params, sample_key, (config.samples,)),
        }

    return jax.jit(jax.vmap(one_seed))


def _train_gan(config: Config):
    """(keys, train) -> critic's estimates of the distance, and samples; of each seed."""
    model = models.gan(8, latent=config.gan_latent, width=config.gan_width, loss="wasserstein")
    optimizers = {
        "generator": _adam(config.gan_learning_rate, config.gan_steps, b1=0.5, b2=0.9),
        "critic": _adam(config.gan_learning_rate, config.gan_steps * config.critic_steps, b1=0.5, b2=0.9),
    }

    def moved(params, memory, half, loss):
        """One step of one half of the game; the other half stays."""
        value, grads = jax.value_and_grad(lambda part: loss(params | {half: part}))(params[half])
        updates, after = optimizers[half].update(grads, memory[half], params[half])
        return params | {half: optax.apply_updates(params[half], updates)}, memory | {half: after}, value

    def one_seed(key, train):
        init_key, run_key, sample_key = jax.random.split(key, 3)
        params, images = model.init(init_key), 2 * train.reshape(-1, 8, 8, 1) - 1
        noise = lambda key: jax.random.normal(key, (config.batch_size, config.gan_latent))

        def critic(state, key):
            params, memory = state
            batch_key, z_key, penalty_key = jax.random.split(key, 3)
            x = images[jax.random.randint(batch_key, (config.batch_size,), 0, config.train)]
            z = noise(z_key)
            loss = lambda params: jnp.mean(model.discriminator_loss(params, x, z, key=penalty_key))
            params, memory, value = moved(params, memory, "critic", loss)
            return (params, memory), value

        def step(state, key):
            critic_key, z_key = jax.random.split(key)
            state, values = jax.lax.scan(critic, state, jax.random.split(critic_key, config.critic_steps))
            z = noise(z_key)
            params, memory, _ = moved(*state, "generator", lambda params: jnp.mean(model.generator_loss(params, z)))
            return (params, memory), -values[-1]

        memory = {half: optimizer.init(params[half]) for half, optimizer in optimizers.items()}
        (params, _), history = jax.lax.scan(step, (params, memory), jax.random.split(run_key, config.gan_steps))
        samples = model.generate(params, sample_key, (config.samples,))
        return {"history": history, "samples": (samples.reshape(-1, 64) + 1) / 2}

    return jax.jit(jax.vmap(one_seed))


# ---- what it is compared with, how samples are judged --------------------------------------------------


def _pca_log_likelihood(train: np.ndarray, test: np.ndarray, latent: int) -> float:
    """Mean log N(x; mean, W W^T + s² I) of the test digits, W and s² of largest likelihood on the training digits."""
    train, test = train.astype(np.float64), test.astype(np.float64)
    mean = train.mean(0)
    values, vectors = np.linalg.eigh(np.cov(train.T, bias=True))
    values[:-latent] = values[:-latent].mean()  # s²: the mean of the variances that are left over
    scores = (test - mean) @ vectors
    return float(np.mean(-0.5 * (np.sum(scores**2 / values, 1) + np.sum(np.log(2 * np.pi * values)))))


def _gaussian(seed: int, x: np.ndarray, count: int) -> np.ndarray:
    """Samples with the mean and covariance of x, cut to [0, 1], which brings them nearer to digits."""
    values, vectors = np.linalg.eigh(np.cov(x.T.astype(np.float64)))
    z = np.random.default_rng(seed).normal(size=(count, len(values)))
    return np.clip(x.mean(0) + (z * np.sqrt(np.maximum(values, 0))) @ vectors.T, 0, 1)


def _nearest(samples: np.ndarray, digits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared distance of each sample to the nearest digit, and which one that is."""
    squares = (samples**2).sum(1)[:, None] + (digits**2).sum(1) - 2 * samples @ digits.T
    return squares.min(1), squares.argmin(1)


def _entropy(labels: np.ndarray) -> float:
    share = np.bincount(labels, minlength=10) / len(labels)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    return [_plot_samples(result.curves["drawn"]), _plot_figures(result.curves)]


def _plot_samples(drawn: Mapping) -> Picture:
    figure = style.figure(10, 5.6)
    grid = figure.subplots(2, 2).ravel()
    for axes, name in zip(grid, ("autoencoder", "GAN", "Gaussian", "unseen digits")):
        # four of each seed's, the first ones: nothing is picked
        first = drawn[name][:10, :4].reshape(-1, 8, 8)
        columns = len(first) // 4
        tiles = np.pad(first, ((0, 0), (1, 1), (1, 1)), constant_values=1).reshape(columns, 4, 10, 10)
        axes.imshow(np.block([[tiles[j, i] for j in range(columns)] for i in range(4)]), cmap="gray_r", vmin=0, vmax=1)
        axes.set_title(name)
        axes.axis("off")
    return Picture(
        "samples",
        "The first four samples of each seed, a column a seed; beside them unseen digits of its split.",
        figure,
    )


def _plot_figures(curves: Mapping) -> Picture:
    figure = style.figure(11, 3.5)
    left, middle, right = figure.subplots(1, 3)
    for axes, history, colour in (
        (left, curves["vae_history"], KINDS["autoencoder"]),
        (middle, curves["gan_history"], KINDS["GAN"]),
    ):
        width = max(1, history.shape[1] // 50)
        steps = history.shape[1] // width
        mean, half = mean_interval(history[:, : steps * width].reshape(len(history), steps, width).mean(-1))
        style.band(axes, width * (np.arange(steps) + 0.5), mean, half, colour=colour, label="training")
    left.axhline(-curves["pca"].mean(), color=style.RED, linestyle="--", label="PCA, unseen digits")
    left.axhline(-curves["elbo"].mean(), color=style.BLACK, linestyle=":", label="autoencoder, unseen digits")
    left.set(title="Autoencoder", xlabel="step", ylabel="negative bound (nats a digit)")
    top = -curves["pca"].mean()
    left.set_ylim(-curves["elbo"].mean() - 0.5 * abs(top), top + 1.5 * abs(top))
    left.legend()
    middle.set(title="GAN", xlabel="step of the generator", ylabel="critic's estimate of the distance")
    for place, name in enumerate(KINDS):
        values = curves["distance"][name]
        mean, half = mean_interval(values)
        right.plot(np.full(len(values), place - 0.12), values, "o", color=KINDS[name], markersize=4, alpha=0.5)
        right.errorbar(place + 0.12, mean, half, fmt="s", color=KINDS[name], capsize=4)
    right.set_xticks(range(len(KINDS)), ["auto-\nencoder", "GAN", "Gauss-\nian", "unseen\ndigits"])
    right.set(title="Squared distance to the nearest digit", ylim=(0, None))
    return Picture(
        "figures",
        "Left: the autoencoder's negative evidence lower bound. Middle: what the critic gives for the distance between "
        "digits and samples, less its penalty. Right: samples and unseen digits to the nearest digit, seeds as dots, mean "
        "and 95 % interval. Bands are 95 % intervals over the seeds.",
        figure,
    )
