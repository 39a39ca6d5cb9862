"""Networks, one a file, all of one form.

    model = mlp((784, 100, 10))            # sizes and options, all static, give a Model
    params = model.init(key)               # a pytree of arrays with readable path names
    y = model.apply(params, x)             # pure; x has any leading batch axes

- `apply(params, x, ...)` takes what changes from call to call by keyword: `key=` where the network is random,
  `deterministic=` where it acts differently once trained.
- A network that carries something from call to call (batch moments) is a StatefulModel:
  `apply(params, carry, x) -> (carry, y)`, with `initial(...) -> carry` beside the pair.
- A network that does more than one thing (a decoder, a generator) has that as further fields, after init and apply.
- Errors begin with the layer's path, which is the path of its parameters: `layers/0: x: expected last axis 4 ...`.
"""

from functional_dl.models.autoencoder import Autoencoder, autoencoder
from functional_dl.models.cnn import cnn
from functional_dl.models.gan import GAN, gan
from functional_dl.models.linear import linear
from functional_dl.models.logistic import LogisticModel, logistic
from functional_dl.models.mlp import mlp
from functional_dl.models.model import NAMES, Model, StatefulModel
from functional_dl.models.recurrent import RecurrentModel, recurrent
from functional_dl.models.resnet import resnet
from functional_dl.models.transformer import EncoderDecoder, LanguageModel, transformer
from functional_dl.models.vae import VAE, vae

__all__ = [
    "GAN",
    "NAMES",
    "VAE",
    "Autoencoder",
    "EncoderDecoder",
    "LanguageModel",
    "LogisticModel",
    "Model",
    "RecurrentModel",
    "StatefulModel",
    "autoencoder",
    "cnn",
    "gan",
    "linear",
    "logistic",
    "mlp",
    "recurrent",
    "resnet",
    "transformer",
    "vae",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
