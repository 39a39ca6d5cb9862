"""A variational autoencoder and a Wasserstein GAN on the 8 x 8 digits of scikit-learn.

The autoencoder (`models.vae`, Gaussian) is judged by its density: the mean evidence lower bound of held-out digits, in
nats, against the exact log-likelihood of probabilistic PCA (Tipping and Bishop 1999) with as many latent variables and
its own best noise, fitted to the same training digits. The bound is below the network's log-likelihood, so that the
comparison favours PCA.

The GAN has none. Both its halves are perceptrons, for on 8 x 8 pixels a digit is no matter of small windows: the
generator from noise to pixels, and the critic D, whose loss (Gulrajani et al. 2017) is

    D(G(z)) - D(x) + w (|grad D(y)| - 1)^2,    y = u x + (1 - u) G(z),  u ~ U[0, 1].

Its gradient by the critic's weights is of second order: the hand-written reverse mode, over the gradient by y that it
gives itself.

The samples of both are judged by where they lie: the mean squared distance to the nearest held-out digit, against that
of samples of a Gaussian with the training digits' mean and covariance; and by the entropy of the nearest training
digits' labels, for a generator that draws one digit only would be near to that one. At random labels it is
log 10 = 2.30 nats.

Settings were chosen on other splits of the digits than these, which were drawn anew for the measurement.

Each seed draws its own split, weights, order and noise; all run at once (vmap). The pictures show what was drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval, plus_minus
from functional_dl import activations, models, reverse

CLAIM = (
    "A variational autoencoder gives unseen digits a higher log-likelihood than probabilistic PCA with as many latent "
    "variables; and its samples and those of a Wasserstein GAN lie nearer to unseen digits than a Gaussian's, in all "
    "classes."
)
KINDS = {"autoencoder": style.BLUE, "GAN": style.GREEN, "Gaussian": style.RED, "unseen digits": style.BLACK}


SUITE = "standard"
SPLITS = 1  # of the measurement; settings were chosen on others


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
    steps: int = 3000
    """Adam's steps of the autoencoder."""
    learning_rate: float = 2e-3
    """Adam's rate at the start; it falls to 0 by a half cosine."""
    gan_latent: int = 8
    """Entries of the GAN's noise."""
    gan_hidden: int = 128
    """Units of the two hidden layers of its generator, and of its critic."""
    gan_steps: int = 3000
    """Steps of its generator."""
    critic_steps: int = 5
    """Steps of its critic for each."""
    gan_learning_rate: float = 2e-3
    """Adam's rate of both at the start; it falls to 0 by a half cosine."""
    penalty: float = 10.0
    """Weight w of the critic's gradient."""
    samples: int = 400
    """Drawn of each generator to be judged."""

    def __post_init__(self):
        settings.at_least(self, 1, "batch_size", "latent", "hidden", "steps")
        settings.at_least(self, 1, "gan_latent", "gan_hidden", "gan_steps", "critic_steps")
        settings.at_least(self, 2, "seeds")
        settings.at_least(self, 40, "samples")
        settings.positive(self, "noise", "learning_rate", "gan_learning_rate", "penalty")
        if not max(self.batch_size, 65) <= self.train < 1797:
            raise ValueError(f"train: expected from max(batch_size, 65) to 1796, got {self.train}")
        if self.latent > 63:
            raise ValueError(f"latent: expected at most 63, got {self.latent}")


SMOKE = Config(
    seeds=2,
    train=100,
    batch_size=10,
    latent=2,
    hidden=4,
    steps=2,
    gan_latent=2,
    gan_hidden=4,
    gan_steps=2,
    critic_steps=1,
    samples=40,
)


def run(config: Config) -> Result:
    train, test, labels = _data(config)
    keys = jax.random.split(jax.random.key(SPLITS), config.seeds)
    progress.part("autoencoders")
    vae = {name: np.asarray(values) for name, values in _train_vae(config)(keys, train, test).items()}
    progress.part("GANs")
    gan = {name: np.asarray(values) for name, values in _train_gan(config)(keys, train).items()}
    progress.part("PCA")
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
        least = float(entropy[name].min())
        checks += [
            Check(
                f"samples of the {name}: mean squared distance to the nearest unseen digit at most 0.8 of that of the "
                "Gaussian's",
                f"{ratio:.2f} ± {half:.2f} of it",
                bool(ratio + half <= 0.8),
            ),
            Check(
                f"samples of the {name}: entropy of their classes at least 2 of {np.log(10):.2f} nats, every seed",
                f"{least:.2f} at least",
                least >= 2,
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
            "history": vae["history"],
            "critic": gan["history"],
        },
    )


# ---- data, training ------------------------------------------------------------------------------------


def _data(config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training digits and held-out ones (seeds, digits, 64), in [0, 1], and the training digits' labels."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = [np.random.default_rng([SPLITS, seed]).permutation(len(raw.target)) for seed in range(config.seeds)]
    order = np.stack(order)
    x = (raw.data / 16).astype(np.float32)[order]
    return x[:, : config.train], x[:, config.train :], raw.target[order][:, : config.train]


def _train_vae(config: Config):
    """(keys, train, test) -> losses, bound of the test digits in nats of pixels in [0, 1], samples; of each seed."""
    model = models.vae((64, config.hidden, config.latent), likelihood="gaussian")
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))

    def loss(params, x, key):  # its noise has variance 1, so that pixels are measured in it
        return jnp.mean(model.loss(params, x / config.noise, key=key))

    def one_seed(key, train, test):
        init_key, run_key, test_key, sample_key = jax.random.split(key, 4)
        params, mean = model.init(init_key), jnp.mean(train, 0)
        train, test = train - mean, test - mean

        def step(state, key):
            params, memory = state
            batch_key, noise_key = jax.random.split(key)
            x = train[jax.random.randint(batch_key, (config.batch_size,), 0, config.train)]
            value, grads = jax.value_and_grad(loss)(params, x, noise_key)
            updates, memory = optimizer.update(grads, memory, params)
            return (optax.apply_updates(params, updates), memory), value

        start = params, optimizer.init(params)
        (params, _), history = jax.lax.scan(step, start, jax.random.split(run_key, config.steps))
        bound = -jnp.mean(jax.lax.map(lambda key: loss(params, test, key), jax.random.split(test_key, 32)))
        return {
            "history": history + 64 * jnp.log(config.noise),
            "elbo": bound - 64 * jnp.log(config.noise),  # the density of x is that of x / noise, over noise^64
            "samples": mean + config.noise * model.sample(params, sample_key, (config.samples,)),
        }

    return jax.jit(jax.vmap(one_seed))


def _train_gan(config: Config):
    """(keys, train) -> what the critic gives for the distance at each step of the generator, samples; of each seed."""
    hidden = (config.gan_hidden, config.gan_hidden)
    generator = models.mlp((config.gan_latent, *hidden, 64), "relu", output=activations.sigmoid)
    critic = models.mlp((64, *hidden, 1), "relu")
    total = {"generator": config.gan_steps, "critic": config.gan_steps * config.critic_steps}
    optimizers = {
        half: optax.adam(optax.cosine_decay_schedule(config.gan_learning_rate, steps), b1=0.5, b2=0.9)
        for half, steps in total.items()
    }

    def generated(params, key):
        return generator.apply(params["generator"], jax.random.normal(key, (config.batch_size, config.gan_latent)))

    def generator_loss(params, key):
        return -jnp.mean(critic.apply(params["critic"], generated(params, key)))

    def distance(params, x, fakes):
        return jnp.mean(critic.apply(params["critic"], x)) - jnp.mean(critic.apply(params["critic"], fakes))

    def critic_loss(params, x, key):
        noise_key, between_key = jax.random.split(key)
        fakes = generated(params, noise_key)
        u = jax.random.uniform(between_key, (config.batch_size, 1))
        gradient = reverse.grad(lambda y: jnp.sum(critic.apply(params["critic"], y)))(u * x + (1 - u) * fakes)
        squares = jnp.sum(jnp.square(gradient), -1)
        positive = squares > 0  # chosen before the root, whose derivative at 0 is infinite
        norms = jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)
        return config.penalty * jnp.mean(jnp.square(norms - 1)) - distance(params, x, fakes)

    def moved(params, memory, half, loss, *inputs):
        """A step of one half of the game; the other half stays."""
        grads = reverse.grad(lambda part: loss(params | {half: part}, *inputs))(params[half])
        updates, after = optimizers[half].update(grads, memory[half], params[half])
        return params | {half: optax.apply_updates(params[half], updates)}, memory | {half: after}

    def one_seed(key, train):
        generator_key, critic_key, run_key, sample_key = jax.random.split(key, 4)
        params = {"generator": generator.init(generator_key), "critic": critic.init(critic_key)}
        batch = lambda key: train[jax.random.randint(key, (config.batch_size,), 0, config.train)]

        def critic_step(state, key):
            batch_key, loss_key = jax.random.split(key)
            return moved(*state, "critic", critic_loss, batch(batch_key), loss_key), None

        def step(state, key):
            critic_key, generator_key, batch_key = jax.random.split(key, 3)
            state, _ = jax.lax.scan(critic_step, state, jax.random.split(critic_key, config.critic_steps))
            found = distance(state[0], batch(batch_key), generated(state[0], generator_key))
            return moved(*state, "generator", generator_loss, generator_key), found

        memory = {half: optimizer.init(params[half]) for half, optimizer in optimizers.items()}
        (params, _), history = jax.lax.scan(step, (params, memory), jax.random.split(run_key, config.gan_steps))
        noise = jax.random.normal(sample_key, (config.samples, config.gan_latent))
        return {"history": history, "samples": generator.apply(params["generator"], noise)}

    return jax.jit(jax.vmap(one_seed))


# ---- what they are compared with, how samples are judged --------------------------------------------------


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
    figure = style.figure(8, 3.6)
    for axes, name in zip(figure.subplots(2, 2).ravel(), KINDS):
        # four of each seed's, the first ones: nothing is picked
        first = drawn[name][:10, :4].reshape(-1, 8, 8)
        columns = len(first) // 4
        tiles = np.pad(first, ((0, 0), (1, 1), (1, 1)), constant_values=0.4).reshape(columns, 4, 10, 10)
        axes.imshow(np.block([[tiles[j, i] for j in range(columns)] for i in range(4)]), cmap="gray_r", vmin=0, vmax=1)
        axes.set_title(name)
        axes.axis("off")
    return Picture(
        "samples",
        "The first four samples of each seed, a column a seed; beside them unseen digits of its split.",
        figure,
    )


def _smoothed(history: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, mean and half width of about fifty means of neighbouring steps."""
    width = max(1, history.shape[1] // 50)
    steps = history.shape[1] // width
    means = history[:, : steps * width].reshape(len(history), steps, width).mean(-1)
    return width * (np.arange(steps) + 0.5), *mean_interval(means)


def _plot_figures(curves: Mapping) -> Picture:
    figure = style.figure(12, 3.5)
    left, middle, right = figure.subplots(1, 3)
    style.band(left, *_smoothed(curves["history"]), colour=style.BLUE, label="autoencoder, training digits")
    lines = ("elbo", "autoencoder, unseen digits", style.BLUE), ("pca", "PCA, unseen digits", style.RED)
    for name, label, line in lines:
        mean, half = mean_interval(-curves[name])
        left.axhspan(mean - half, mean + half, color=line, alpha=0.2, linewidth=0)
        left.axhline(mean, color=line, linestyle="--", linewidth=1.2, label=label)
    left.set(title="Density", xlabel="step", ylabel="minus bound, minus log-likelihood (nats)")
    levels = -np.array([curves["elbo"].mean(), curves["pca"].mean()])
    left.set_ylim(levels.min() - 10, levels.max() + 30)
    left.legend()
    style.band(middle, *_smoothed(curves["critic"]), colour=KINDS["GAN"], label="mean over the seeds")
    middle.set(title="Critic's estimate of the distance", xlabel="step of the generator", ylim=(0, None))
    for place, name in enumerate(KINDS):
        values = curves["distance"][name]
        mean, half = mean_interval(values)
        right.plot(np.full(len(values), place - 0.12), values, "o", color=KINDS[name], markersize=4, alpha=0.5)
        right.errorbar(place + 0.12, mean, half, fmt="s", color=KINDS[name], capsize=4)
    right.set_xticks(range(len(KINDS)), ["auto-\nencoder", "GAN", "Gaussian", "unseen\ndigits"])
    right.set(title="Squared distance to the nearest digit", xlim=(-0.5, len(KINDS) - 0.5), ylim=(0, None))
    return Picture(
        "figures",
        "Left: the autoencoder's negative evidence lower bound, in training and at the end on unseen digits, against "
        "PCA. Middle: D(x) - D(G(z)), the distance of training digits from generated ones by the GAN's critic. Right: "
        "samples to the nearest unseen digit, and unseen digits to the nearest training digit, seeds as dots, and the "
        "mean. Bands and bars are 95 % intervals over the seeds.",
        figure,
    )
