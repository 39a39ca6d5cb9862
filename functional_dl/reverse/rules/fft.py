"""Discrete Fourier transforms, of complex and real numbers, forward and back, over the last one to three axes."""

from math import prod

import numpy as np
from jax import lax
from jax.extend.core.primitives import fft_p

from functional_dl.reverse.rule import COMPLEX, Probe, vjp_rule

REAL = ("float64", "float32")


def _probe(kind, shape, lengths, dtypes):
    return Probe(lambda x: lax.fft(x, kind, lengths), shapes=(shape,), dtypes=dtypes)


@vjp_rule(
    fft_p,
    _probe("FFT", (5,), (5,), COMPLEX),
    _probe("FFT", (2, 4, 3), (4, 3), COMPLEX),
    _probe("FFT", (2, 2, 3), (2, 2, 3), COMPLEX),
    _probe("IFFT", (2, 6), (6,), COMPLEX),
    _probe("IFFT", (2, 3, 2), (2, 3, 2), COMPLEX),
    _probe("RFFT", (2, 6), (6,), REAL),
    _probe("RFFT", (5,), (5,), REAL),
    _probe("RFFT", (1,), (1,), REAL),
    _probe("RFFT", (2, 3, 4), (3, 4), REAL),
    _probe("RFFT", (2, 3, 5), (2, 3, 5), REAL),
    _probe("IRFFT", (2, 4), (6,), COMPLEX),
    _probe("IRFFT", (3,), (5,), COMPLEX),
    _probe("IRFFT", (1,), (1,), COMPLEX),
    _probe("IRFFT", (3, 3), (3, 4), COMPLEX),
    _probe("IRFFT", (2, 3, 3), (2, 3, 5), COMPLEX),
    _probe("FFT", (0, 3), (3,), COMPLEX),
    reads="",
    latex=(
        lambda t: (
            f"\\mathcal{{F}}_{{\\text{{{str(t.params.get('fft_type', 'fft')).rsplit('.', 1)[-1].lower()}}}}}(<x>)"
        ),
        r"\mathcal{F}^{\top}(<c>)",
    ),
)
def fft_vjp(ct, out, x, *, fft_type, fft_lengths, **_):
    """FFT:  y_k = sum_n x_n e^(-2 pi i k n / N),  a symmetric matrix  =>  x_bar = FFT(y_bar).  IFFT alike.

    RFFT:  y_k for k <= N/2 alone, of a real x  =>  x_bar_n = Re sum_{k <= N/2} y_bar_k e^(-2 pi i k n / N)
    = N IRFFT(h conj(y_bar)), with h_k = 1 where k = 0 or N/2, and 1/2 elsewhere, as IRFFT counts those k twice.

    IRFFT:  y_n = Re sum_{k <= N/2} x_k e^(2 pi i k n / N) / (h_k N)  =>  x_bar = conj(RFFT(y_bar)) / (h N).

    Over several axes the last one is the real one, and N is the product of the lengths.
    """
    kind = getattr(fft_type, "name", str(fft_type))
    if kind in ("FFT", "IFFT"):
        return (lax.fft(ct, fft_type, fft_lengths),)
    last, count = fft_lengths[-1], prod(fft_lengths)
    half = np.full(last // 2 + 1, 0.5)
    half[0] = 1.0
    if last % 2 == 0:
        half[-1] = 1.0

    def weighted(z, weights):
        return lax.mul(z, lax.broadcast_in_dim(weights.astype(z.dtype), z.shape, (z.ndim - 1,)))

    if kind == "RFFT":
        return (lax.fft(weighted(lax.conj(ct), half * count), "IRFFT", fft_lengths),)
    return (weighted(lax.conj(lax.fft(ct, "RFFT", fft_lengths)), 1.0 / (half * count)),)
