"""Softmax and its relatives, and losses."""

import jax
import jax.numpy as jnp

from experiments.corpus.case import WIDE, Fault, operation


def _logits(draw):
    return (draw.normal(4, 6),)


@operation(
    _logits,
    variants={"equal": lambda d: (d.pick([0.5], 3, 5),)},
    no_coupling=Fault("missing_term"),
    wrong_axis=Fault("missing_term", also=("wrong_point", "missing_reduction", "unknown"),
            note="the coupling is summed "
            "over the batch axis"),
    of_output=Fault("wrong_point", note="softmax is taken once more in the backward pass"),
    mean_coupling=Fault("missing_term", also=("scale", "missing_reduction", "unknown"),
            note="mean in place of sum in "
            "the coupling: a part of the "
                        "term is missing"),
    negative=Fault("sign"),
)  # fmt: skip
def softmax(fault):
    def fun(x):
        e = jnp.exp(x - jax.lax.stop_gradient(x.max(-1, keepdims=True)))
        return e / e.sum(-1, keepdims=True)

    def fun_vjp(x):
        out = fun(x)

        def pullback(ct):
            p = fun(out) if fault == "of_output" else out
            if fault == "no_coupling":
                return (p * ct,)
            along = 0 if fault == "wrong_axis" else -1
            reduce = jnp.mean if fault == "mean_coupling" else jnp.sum
            bar = p * (ct - reduce(p * ct, along, keepdims=True))
            return (-bar if fault == "negative" else bar,)

        return out, pullback

    return fun, fun_vjp


@operation(
    _logits,
    variants={"far": lambda d: (d.normal(3, 5, scale=50.0),)},
    no_sum=Fault("missing_term", note="p ct in place of p sum ct"),
    output_for_p=Fault("wrong_point", note="the log-probabilities stand for the probabilities"),
    only_ct=Fault("missing_term"),
)
def log_softmax(fault):
    def fun(x):
        return jax.nn.log_softmax(x, axis=-1)

    def fun_vjp(x):
        out = fun(x)

        def pullback(ct):
            p = out if fault == "output_for_p" else jnp.exp(out)
            if fault == "only_ct":
                return (ct,)
            return (ct - p * (ct if fault == "no_sum" else ct.sum(-1, keepdims=True)),)

        return out, pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(5, 7),),
    unnormalised=Fault("wrong_point", also=("scale", "unknown"), note="e^x in place of the softmax"),
    hard_max=Fault("wrong_branch", also=("missing_term", "unknown"), note="all to the largest entry"),
    overflow=Fault("nonfinite", dtypes=WIDE, primals=lambda d: (d.normal(4, 6, scale=900.0),)),
    bare=Fault("structure", "", note="an array in place of a tuple"),
)
def logsumexp(fault):
    def fun(x):
        return jax.nn.logsumexp(x, axis=-1)

    def fun_vjp(x):
        out = fun(x)

        def pullback(ct):
            p = jnp.exp(x - out[:, None])
            if fault == "unnormalised":
                p = jnp.exp(x)
            if fault == "hard_max":
                p = jax.nn.one_hot(x.argmax(-1), x.shape[-1], dtype=x.dtype)
            if fault == "overflow":
                e = jnp.exp(x)
                p = e / e.sum(-1, keepdims=True)
            bar = ct[:, None] * p
            return bar if fault == "bare" else (bar,)

        return out, pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(8, 5), d.integers(5, 8)),
    not_averaged=Fault("scale"),
    no_label=Fault("missing_term", note="the one-hot label is not subtracted"),
    ignores_ct=Fault("ignored_cotangent"),
    negative=Fault("sign"),
    shifted_label=Fault("shifted", also=("wrong_branch", "unknown", "wrong_point"), note="labels counted from one"),
    float_for_labels=Fault("structure", "", note="no cotangent is returned for the labels"),
)
def cross_entropy(fault):
    def fun(logits, labels):
        logp = jax.nn.log_softmax(logits, axis=-1)
        return -jnp.mean(jnp.take_along_axis(logp, labels[:, None], 1))

    def fun_vjp(logits, labels):
        def pullback(ct):
            p = jax.nn.softmax(logits, axis=-1)
            one = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
            if fault == "shifted_label":
                one = jnp.roll(one, 1, -1)
            delta = p if fault == "no_label" else p - one
            n = 1 if fault == "not_averaged" else len(labels)
            bar = delta / n if fault == "ignores_ct" else ct * delta / n
            if fault == "float_for_labels":
                return (bar,)
            return (-bar if fault == "negative" else bar), None

        return fun(logits, labels), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(6, 5), jnp.arange(6) % 5),
    unsmoothed=Fault(
        "missing_term", also=("wrong_point", "unknown"), note="the uniform part of the target is left out"
    ),
    summed=Fault("scale"),
    padding_counted=Fault(
        "mask_missing", also=("wrong_branch",), note="examples of label 0 are masked in fun, not in the backward pass"
    ),
)
def smoothed_cross_entropy(fault):
    alpha = 0.2

    def fun(logits, labels):
        k = logits.shape[-1]
        target = (1 - alpha) * jax.nn.one_hot(labels, k, dtype=logits.dtype) + alpha / k
        each = -jnp.sum(target * jax.nn.log_softmax(logits, axis=-1), -1)
        return jnp.sum(jnp.where(labels != 0, each, 0)) / len(labels)

    def fun_vjp(logits, labels):
        def pullback(ct):
            k = logits.shape[-1]
            one = jax.nn.one_hot(labels, k, dtype=logits.dtype)
            target = one if fault == "unsmoothed" else (1 - alpha) * one + alpha / k
            delta = jax.nn.softmax(logits, axis=-1) - target
            if fault != "padding_counted":
                delta = jnp.where((labels != 0)[:, None], delta, 0)
            return ct * delta / (1 if fault == "summed" else len(labels)), None

        return fun(logits, labels), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(10), d.pick([0.0, 1.0], 10)),
    target_swapped=Fault("sign", 0),
    logit_for_probability=Fault("wrong_point", 0),
    target_forgotten=Fault("zero", 1),
    exchanged=Fault("swapped", (0, 1)),
)
def binary_cross_entropy(fault):
    """Each example's loss, from logits: log(1 + e^z) - t z."""

    def fun(z, t):
        return jnp.logaddexp(z, 0) - t * z

    def fun_vjp(z, t):
        def pullback(ct):
            s = z if fault == "logit_for_probability" else jax.nn.sigmoid(z)
            z_bar = ct * (t - s if fault == "target_swapped" else s - t)
            t_bar = 0 * z if fault == "target_forgotten" else -ct * z
            return (t_bar, z_bar) if fault == "exchanged" else (z_bar, t_bar)

        return fun(z, t), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 5), d.normal(4, 5)),
    no_two=Fault("scale", (0, 1)),
    not_averaged=Fault("scale", (0, 1)),
    target_sign=Fault("sign", 1),
    ignores_ct=Fault("ignored_cotangent", (0, 1)),
    sum_returned=Fault("primal", ""),
    complex_answer=Fault("dtype", 0, dtypes=WIDE),
)
def mean_squared_error(fault):
    def fun(p, t):
        return jnp.mean((p - t) ** 2)

    def fun_vjp(p, t):
        def pullback(ct):
            n = 1 if fault == "not_averaged" else p.size
            c = 1 if fault == "no_two" else 2
            bar = c * (p - t) / n * (1 if fault == "ignores_ct" else ct)
            first = bar + 0j if fault == "complex_answer" else bar
            return first, (bar if fault == "target_sign" else -bar)

        return (jnp.sum((p - t) ** 2) if fault == "sum_returned" else fun(p, t)), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(20, scale=2.0), d.normal(20)),
    inverted=Fault("wrong_branch", (0, 1)),
    no_delta=Fault("wrong_branch", (0, 1), also=("unknown",), note="the slope of the outer branch is 1, not delta"),
    never_clipped=Fault("wrong_branch", (0, 1)),
)
def huber(fault):
    delta = 0.7

    def fun(p, t):
        d = p - t
        a = jnp.abs(d)
        return jnp.where(a <= delta, 0.5 * d * d, delta * (a - 0.5 * delta))

    def fun_vjp(p, t):
        def pullback(ct):
            d = p - t
            inside = jnp.abs(d) <= delta
            if fault == "inverted":
                inside = ~inside
            outer = jnp.sign(d) * (1 if fault == "no_delta" else delta)
            bar = ct * (d if fault == "never_clipped" else jnp.where(inside, d, outer))
            return bar, -bar

        return fun(p, t), pullback

    return fun, fun_vjp


def _margins(draw):
    return draw.pick([-1.0, 0.0, 0.5, 1.0, 2.0], 12), draw.pick([-1.0, 1.0], 12)


@operation(
    lambda d: (d.normal(12), d.pick([-1.0, 1.0], 12)),
    variants={"ties": _margins},
    sign_of_label=Fault("sign", 0),
    no_margin=Fault("wrong_branch", (0, 1), note="y z < 0 in place of y z < 1"),
    inverted=Fault("wrong_branch", (0, 1)),
    margin_beyond=Fault("kink", 0, primals=_margins, note="at the margin the slope is counted twice"),
)
def hinge(fault):
    def fun(z, y):
        return jnp.maximum(0, 1 - y * z)

    def fun_vjp(z, y):
        def pullback(ct):
            active = y * z < (0 if fault == "no_margin" else 1)
            if fault == "inverted":
                active = ~active
            active = active.astype(z.dtype)
            z_bar = -ct * y * active
            if fault == "sign_of_label":
                z_bar = -z_bar
            if fault == "margin_beyond":
                z_bar = z_bar - 2 * ct * y * (y * z == 1)
            return z_bar, -ct * z * active

        return fun(z, y), pullback

    return fun, fun_vjp


def _distributions(draw):
    p, q = draw.rng.uniform(0.2, 1, (2, 4, 5))
    return draw.cast(p / p.sum(-1, keepdims=True)), draw.cast(q / q.sum(-1, keepdims=True))


@operation(
    _distributions,
    no_one=Fault("missing_term", 0, note="the derivative of log p"),
    second_positive=Fault("sign", 1),
    exchanged=Fault("swapped", (0, 1)),
    ratio_inverted=Fault("wrong_point", 1, note="q / p in place of p / q"),
)
def kl_divergence(fault):
    def fun(p, q):
        return jnp.sum(p * (jnp.log(p) - jnp.log(q)), -1)

    def fun_vjp(p, q):
        def pullback(ct):
            ct = ct[:, None]
            p_bar = ct * (jnp.log(p / q) + (0 if fault == "no_one" else 1))
            q_bar = -ct * (q / p if fault == "ratio_inverted" else p / q)
            if fault == "second_positive":
                q_bar = -q_bar
            return (q_bar, p_bar) if fault == "exchanged" else (p_bar, q_bar)

        return fun(p, q), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 6), d.normal(4, 6)),
    no_projection=Fault("missing_term", 0, note="the derivative of 1/|x|"),
    one_norm=Fault("wrong_point", 0, also=("unknown", "missing_term"), note="|y| is not divided by in the first term"),
    exchanged=Fault("swapped", (0, 1)),
)
def cosine_similarity(fault):
    def fun(x, y):
        return jnp.sum(x * y, -1) / (jnp.linalg.norm(x, axis=-1) * jnp.linalg.norm(y, axis=-1))

    def fun_vjp(x, y):
        def one(ct, a, b, wrong):
            n, m = jnp.linalg.norm(a, axis=-1, keepdims=True), jnp.linalg.norm(b, axis=-1, keepdims=True)
            c = jnp.sum(a * b, -1, keepdims=True) / (n * m)
            first = b / n if wrong and fault == "one_norm" else b / (n * m)
            return ct[:, None] * (first if wrong and fault == "no_projection" else first - c * a / n**2)

        def pullback(ct):
            bars = one(ct, x, y, True), one(ct, y, x, False)
            return bars[::-1] if fault == "exchanged" else bars

        return fun(x, y), pullback

    return fun, fun_vjp
