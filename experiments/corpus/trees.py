"""Parameters in trees, functions of NumPy."""

import jax.numpy as jnp
import numpy as np

from experiments.corpus.case import Fault, operation


def _network(draw):
    params = {
        "hidden": {"w": draw.normal(4, 5, scale=0.5), "b": draw.normal(5, scale=0.3)},
        "out": {"w": draw.normal(5, 2, scale=0.5), "b": draw.normal(2)},
    }
    return params, draw.normal(6, 4)


@operation(
    _network,
    layer_missing=Fault("structure", "args[0]", note="a layer's entry is missing"),
    params_list=Fault("structure", "args[0]"),
    bias_dropped=Fault("zero", "args[0]['hidden']['b']"),
    bias_first=Fault("missing_reduction", "args[0]['out']['b']"),
    bias_mean=Fault("missing_reduction", "args[0]['hidden']['b']", also=("scale",)),
    post_activation=Fault("wrong_point", ("args[0]['out']['w']",), note="tanh of the hidden layer once more"),
    slope_of_input=Fault("wrong_point", ("args[0]['hidden']['w']", "args[0]['hidden']['b']", "args[1]"),
            note="1 "
            "- z^2"),
    weight_decay=Fault("missing_term", ("args[0]['hidden']['w']",), also=("unknown",),
            note="an additive term too many: w, "
            "as weight decay in the "
                       "pullback; nonlinear in ct, strictly: see also"),
    integer_bias=Fault("dtype", "args[0]['out']['b']"),
    output_summed=Fault("primal", "", note="the mean over the batch is returned"),
)  # fmt: skip
def network(fault):
    def fun(params, x):
        h = jnp.tanh(x @ params["hidden"]["w"] + params["hidden"]["b"])
        return h @ params["out"]["w"] + params["out"]["b"]

    def fun_vjp(params, x):
        z = x @ params["hidden"]["w"] + params["hidden"]["b"]
        h = jnp.tanh(z)

        def pullback(ct):
            z_bar = (ct @ params["out"]["w"].T) * (1 - (z if fault == "slope_of_input" else h) ** 2)
            hidden = {"w": x.T @ z_bar, "b": z_bar.sum(0)}
            out = {"w": (jnp.tanh(h) if fault == "post_activation" else h).T @ ct, "b": ct.sum(0)}
            if fault == "bias_dropped":
                hidden["b"] = jnp.zeros_like(hidden["b"])
            if fault == "bias_first":
                out["b"] = ct[0]
            if fault == "bias_mean":
                hidden["b"] = z_bar.mean(0)
            if fault == "weight_decay":
                hidden["w"] = hidden["w"] + 0.1 * params["hidden"]["w"]
            if fault == "integer_bias":
                out["b"] = out["b"].astype(jnp.int32)
            tree = {"hidden": hidden, "out": out}
            if fault == "layer_missing":
                tree = {"hidden": hidden}
            if fault == "params_list":
                tree = [hidden["w"], hidden["b"], out["w"], out["b"]]
            return tree, z_bar @ params["hidden"]["w"].T

        out = fun(params, x)
        return (out.mean(0) if fault == "output_summed" else out), pullback

    return fun, fun_vjp


def _plain_numpy(draw):
    return np.asarray(draw.rng.normal(size=(4, 3)), draw.dtype), np.asarray(draw.rng.normal(size=3), draw.dtype)


@operation(
    _plain_numpy,
    dtypes=("float64",),
    doubled=Fault("scale", 0),
    row_zero=Fault("missing_reduction", 1),
    negative=Fault("sign", 0),
    in_place=Fault("nondeterministic", (0,), note="the result buffer is shared and added to"),
)
def numpy_affine(fault):
    buffer = np.zeros((4, 3))

    def fun(x, b):
        return np.asarray(np.sin(np.asarray(x, float)) + np.asarray(b, float))

    def fun_vjp(x, b):
        def pullback(ct):
            ct = np.asarray(ct)
            x_bar = ct * np.cos(x) * (2 if fault == "doubled" else -1 if fault == "negative" else 1)
            if fault == "in_place":
                np.add(buffer, x_bar, out=buffer)
                x_bar = buffer.copy()
            return x_bar, (ct[0] if fault == "row_zero" else ct.sum(0))

        return fun(x, b), pullback

    return fun, fun_vjp


@operation(
    lambda d: (np.asarray(d.rng.normal(size=7), d.dtype),),
    dtypes=("float64",),
    next_neighbour=Fault("shifted"),
    one_side=Fault("missing_term"),
    ones=Fault("ignored_cotangent"),
)
def numpy_difference(fault):
    """y_i = x_(i+1)^2 - x_i"""

    def fun(x):
        x = np.asarray(x, float)
        return x[1:] ** 2 - x[:-1]

    def fun_vjp(x):
        def pullback(ct):
            ct = np.ones_like(ct) if fault == "ones" else np.asarray(ct)
            bar = np.zeros_like(x)
            bar[1:] += 2 * x[1:] * ct
            if fault != "one_side":
                bar[:-1] -= ct
            return (np.roll(bar, 1) if fault == "next_neighbour" else bar,)

        return fun(x), pullback

    return fun, fun_vjp
