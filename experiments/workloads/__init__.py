"""Programs to differentiate, of the usual kinds and a few unusual ones: each a loss of its first argument, in sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from experiments.workloads import (
    convolutional,
    dense,
    loops,
    matrices,
    products,
    recurrent,
    spectral,
    transformer,
)


@dataclass(frozen=True)
class Workload:
    """A scalar function and its arguments; the first is differentiated.

    Attributes:
      build: (key, size) -> arguments; the work grows with size, 1, 2 or 4, about in proportion.
      about: one line.
      loops: most of the time goes by in a loop.
    """

    fun: Callable[..., Any]
    build: Callable[..., tuple]
    about: str
    loops: bool = False


WORKLOADS = {
    "mlp": Workload(dense.loss, dense.build, "three dense layers, ReLU, softmax cross-entropy"),
    "vae": Workload(dense.vae_loss, dense.build_vae, "a variational autoencoder of dense layers"),
    "mixture": Workload(dense.mixture_loss, dense.build_mixture, "a mixture density network"),
    "counts": Workload(dense.count_loss, dense.build_counts, "a negative binomial regression by two dense layers"),
    "cnn": Workload(convolutional.loss, convolutional.build, "two convolutions with max pooling, two dense layers"),
    "resnet": Workload(convolutional.resnet_loss, convolutional.build_resnet, "three residual blocks, batch norm"),
    "unet": Workload(convolutional.unet_loss, convolutional.build_unet, "down and up again by pooling, with a skip"),
    "transformer": Workload(transformer.loss, transformer.build, "four blocks of causal attention and GELU"),
    "lstm": Workload(recurrent.loss, recurrent.build, "an LSTM scanned over time", True),
    "gru": Workload(recurrent.gru_loss, recurrent.build_gru, "a GRU scanned over time", True),
    "rnn": Workload(recurrent.rnn_loss, recurrent.build_rnn, "a tanh cell scanned over time", True),
    "ode": Workload(loops.ode_loss, loops.build_ode, "a neural differential equation by Runge and Kutta's steps", True),
    "meta": Workload(
        loops.meta_loss, loops.build_meta, "a loss after steps of gradient descent: a gradient's gradient", True
    ),
    "product": Workload(products.loss, products.build, "the product of 1000 numbers and more"),
    "ranking": Workload(products.ranking_loss, products.build_ranking, "listwise ranking by running log-sum-exps"),
    "gp": Workload(matrices.gp_loss, matrices.build_gp, "the likelihood of a Gaussian process, by Cholesky"),
    "fourier": Workload(spectral.layer_loss, spectral.build_layer, "a layer of weights in the frequency domain"),
    "spectrum": Workload(spectral.loss, spectral.build, "a spectrogram's distance, short windows transformed"),
}
