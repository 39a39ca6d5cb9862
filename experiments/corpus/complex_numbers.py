"""Complex arrays: JAX pairs without a conjugate, z_bar = (dw/dz) w_bar for holomorphic functions."""

import jax.numpy as jnp

from experiments.corpus.case import WIDE, Fault, operation


@operation(
    lambda d: (d.complex(3, 4), d.complex(4, 3)),
    dtypes=WIDE,
    conjugated=Fault("missing_conjugate", 0, note="conjugate transpose, as other libraries' convention wants it"),
    result_conjugated=Fault("missing_conjugate", 1),
    negative=Fault("sign", 1),
    real_part=Fault("dtype", 0, note="the real part is returned"),
)
def complex_matmul(fault):
    def fun(a, b):
        return a @ b

    def fun_vjp(a, b):
        def pullback(ct):
            a_bar = ct @ (b.conj().T if fault == "conjugated" else b.T)
            b_bar = a.T @ ct
            if fault == "result_conjugated":
                b_bar = b_bar.conj()
            if fault == "real_part":
                a_bar = a_bar.real
            return a_bar, (-b_bar if fault == "negative" else b_bar)

        return fun(a, b), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.complex(8),),
    dtypes=WIDE,
    not_conjugated=Fault("missing_conjugate"),
    no_division=Fault("wrong_point", also=("scale", "unknown"), note="z in place of z / |z|"),
    real_dtype=Fault("dtype"),
)
def modulus(fault):
    def fun(z):
        return jnp.abs(z)

    def fun_vjp(z):
        def pullback(ct):
            n = 1 if fault == "no_division" else jnp.abs(z)
            bar = ct * (z if fault == "not_conjugated" else z.conj()) / n
            return (bar.real if fault == "real_dtype" else bar,)

        return fun(z), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.complex(2, 6),),
    dtypes=WIDE,
    inverse_scaled=Fault("missing_conjugate", also=("transpose", "scale", "unknown"),
            note="n ifft(ct): the conjugate "
            "transpose, where the pairing "
                         "wants the transpose"),
    inverse=Fault("missing_conjugate", also=("scale", "transpose", "unknown"),
            note="ifft(ct): the conjugate "
            "and 1/n besides"),
    scaled=Fault("scale", note="1/n"),
    other_axis=Fault("transpose", also=("wrong_point", "unknown"), note="along the batch axis", ),
)  # fmt: skip
def fourier(fault):
    def fun(z):
        return jnp.fft.fft(z, axis=-1)

    def fun_vjp(z):
        n = z.shape[-1]

        def pullback(ct):
            if fault == "inverse_scaled":
                return (n * jnp.fft.ifft(ct, axis=-1),)
            if fault == "inverse":
                return (jnp.fft.ifft(ct, axis=-1),)
            bar = jnp.fft.fft(ct, axis=0 if fault == "other_axis" else -1)
            return (bar / n if fault == "scaled" else bar,)

        return fun(z), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.complex(5), d.complex(5)),
    dtypes=WIDE,
    first_plain=Fault("missing_conjugate", 0),
    second_conjugated=Fault("missing_conjugate", 1),
    exchanged=Fault("swapped", (0, 1), also=("missing_conjugate",)),
    constant=Fault("zero", 0),
)
def inner_product(fault):
    """sum conj(x) y"""

    def fun(x, y):
        return jnp.sum(x.conj() * y)

    def fun_vjp(x, y):
        def pullback(ct):
            x_bar = (ct * y).conj()
            y_bar = ct * x.conj()
            if fault == "first_plain":
                x_bar = ct * y
            if fault == "second_conjugated":
                y_bar = ct * x
            if fault == "constant":
                x_bar = 0 * x_bar
            return (y_bar, x_bar) if fault == "exchanged" else (x_bar, y_bar)

        return fun(x, y), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(6), d.complex(6)),
    dtypes=WIDE,
    no_conjugate=Fault("missing_conjugate", 1, note="the state's cotangent with the phase's conjugate"),
    phase_sign=Fault("sign", 0),
    imaginary=Fault(
        "wrong_point", 0, also=("missing_conjugate", "unknown"), note="the imaginary part in place of the real one"
    ),
)
def phases(fault):
    """z e^(i t)"""

    def fun(t, z):
        return z * jnp.exp(1j * t)

    def fun_vjp(t, z):
        u = jnp.exp(1j * t)

        def pullback(ct):
            each = ct * 1j * z * u
            t_bar = each.imag if fault == "imaginary" else each.real
            z_bar = ct * (u.conj() if fault == "no_conjugate" else u)
            return (-t_bar if fault == "phase_sign" else t_bar), z_bar

        return fun(t, z), pullback

    return fun, fun_vjp
