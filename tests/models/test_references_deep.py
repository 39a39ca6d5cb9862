"""Networks against PyTorch's, made by make_references_deep.py, to 1e-10 in float64: outputs, gradients, moments."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.golden import golden, parameter, tokens

from functional_dl import models, reverse, tree

REFERENCES = json.loads(Path(__file__).with_name("references_deep.json").read_text())["cases"]
IDS, SOURCE = tokens("ids", (3, 5), 7), tokens("source", (3, 4), 5)


def _conv(weight, bias=None):
    return {"weight": jnp.moveaxis(weight, (0, 1), (-1, -2))} | ({} if bias is None else {"bias": bias})


def _dense(p, name):
    return {"weight": p[f"{name}.weight"].T, "bias": p[f"{name}.bias"]}


def _norm(p, name):
    return {"scale": p[f"{name}.weight"], "bias": p[f"{name}.bias"]}


def _after_flattening(p, name):
    """PyTorch flattens (channels, *space), JAX's layout is (*space, channels): 4 channels on 2 x 2 places."""
    weight = p[f"{name}.weight"].reshape(-1, 4, 2, 2)
    return {"weight": jnp.moveaxis(weight, 1, -1).reshape(-1, 16).T, "bias": p[f"{name}.bias"]}


def _images(name, *shape):
    return np.moveaxis(golden(name, shape, 2.0), 1, -1)


# ---- each network: PyTorch's parameters -> (moments or None, output) -------------------------------------------------


def _lenet(p):
    model = models.cnn((8, 8), 2, 3, stages=[[3], [4]], hidden=[6, 5])
    convs = [[{"conv": _conv(p[f"{i}.weight"], p[f"{i}.bias"])}] for i in (0, 3)]
    head = [_after_flattening(p, "7"), _dense(p, "9"), _dense(p, "11")]
    return None, model.apply({"stages": convs, "head": head}, _images("x", 3, 2, 8, 8))


def _vgg(p, moments=None):
    model = models.cnn((8, 8), 1, 3, "vgg", stages=[[3, 3], [4]], hidden=[5], batch_norm=True)
    units = [{"conv": _conv(p[f"{i}.weight"]), "norm": _norm(p, str(i + 1))} for i in (0, 3, 7)]
    params = {"stages": [units[:2], units[2:]], "head": [_after_flattening(p, "12"), _dense(p, "14")]}
    if moments is None:
        return model.apply(params, model.initial(jnp.float64), _images("x", 3, 1, 8, 8))
    return None, model.apply(params, moments, _images("x", 3, 1, 8, 8), deterministic=True)[1]


def _vgg_in_use(p):
    norms = [
        {"norm": {"mean": golden(f"{i}.running_mean", (n,)), "variance": golden(f"{i}.running_var", (n,)) + 1}}
        for i, n in ((1, 3), (4, 3), (8, 4))
    ]
    return _vgg(p, {"stages": [norms[:2], norms[2:]]})


def _resnet(shortcut, pre_activation):
    def run(p):
        model = models.resnet(
            8, 2, 3, widths=(3, 4, 5), shortcut=shortcut, pre_activation=pre_activation, dtype=jnp.float64
        )
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        params = jax.tree_util.tree_map_with_path(lambda path, _: _of_path(p, path), shapes)
        return model.apply(params, model.initial(), _images("x", 3, 2, 6, 7))

    return run


def _of_path(p, path):
    """PyTorch's parameter of the same path: a norm's scale is called weight there."""
    *above, leaf = [str(getattr(part, "key", getattr(part, "idx", None))) for part in path]
    value = p[".".join([*above, "weight" if leaf == "scale" else leaf])]
    return jnp.moveaxis(value, (0, 1), (-1, -2)) if value.ndim > 1 else value


def _recurrent(cell, both, every):
    def cell_of(p, suffix):
        return {
            name: {"weight": p[f"cells.weight_{part}_{suffix}"].T, "bias": p[f"cells.bias_{part}_{suffix}"]}
            for name, part in (("input", "ih"), ("hidden", "hh"))
        }

    def run(p):
        model = models.recurrent(3, 4, 2, cell, depth=2, bidirectional=both, every_step=every)
        stack = [
            {"forward": cell_of(p, f"l{l}"), "backward": cell_of(p, f"l{l}_reverse")} if both else cell_of(p, f"l{l}")
            for l in (0, 1)
        ]
        params = {"layers": stack, "head": _dense(p, "head")}
        return None, model.apply(params, golden("x", (3, 5, 3), 2.0), np.array([5, 2, 4]))

    return run


def _attention(p, name):
    weights, biases = jnp.split(p[f"{name}.in_proj_weight"], 3), jnp.split(p[f"{name}.in_proj_bias"], 3)
    made = {n: {"weight": w.T, "bias": b} for n, w, b in zip(("query", "key", "value"), weights, biases)}
    return made | {"output": _dense(p, f"{name}.out_proj")}


def _block(p, name, cross=False):
    made = {
        "attention_norm": _norm(p, f"{name}.norm1"),
        "attention": _attention(p, f"{name}.self_attn"),
        "mlp_norm": _norm(p, f"{name}.norm{3 if cross else 2}"),
        "hidden": _dense(p, f"{name}.linear1"),
        "output": _dense(p, f"{name}.linear2"),
    }
    if cross:
        made["cross_attention_norm"] = _norm(p, f"{name}.norm2")
        made["cross_attention"] = _attention(p, f"{name}.multihead_attn")
    return made


def _tower(p, depth=1, cross=False):
    made = {"embedding": {"weight": p["embedding.weight"]}}
    made |= {"positions": {"weight": p["positions.weight"]}} if "positions.weight" in p else {}
    made |= {"norm": _norm(p, "norm")} if "norm.weight" in p else {}
    made |= {"head": _dense(p, "head")} if "head.weight" in p else {}
    return made | {"blocks": [_block(p, f"blocks.{b}", cross) for b in range(depth)]}


def _transformer(*args, lengths=None, depth=1, **options):
    def run(p):
        model = models.transformer(7, 8, 2, depth, 6, *args, hidden=6, **options)
        return None, model.apply(_tower(p, depth), IDS, lengths)

    return run


def _rotary(p):
    model = models.transformer(7, 8, 2, 1, 6, hidden=6, key_value_heads=1, positions="rotary")
    block = {
        "attention_norm": _norm(p, "norm1"),
        "attention": {name: _dense(p, name) for name in ("query", "key", "value", "output")},
        "mlp_norm": _norm(p, "norm2"),
        "hidden": _dense(p, "up"),
        "output": _dense(p, "down"),
    }
    around = {"embedding": {"weight": p["embedding.weight"]}, "norm": _norm(p, "norm"), "head": _dense(p, "head")}
    return None, model.apply(around | {"blocks": [block]}, IDS)


def _encoder_decoder(post_norm):
    def run(p):
        model = models.transformer(7, 8, 2, 1, 6, "encoder_decoder", hidden=6, source_vocabulary=5, post_norm=post_norm)
        halves = ("encoder", "decoder")
        parts = [{k.removeprefix(f"{h}."): v for k, v in p.items() if k.startswith(h)} for h in halves]
        params = {h: _tower(part, cross=h == "decoder") for h, part in zip(halves, parts)}
        return None, model.apply(params, SOURCE, IDS, np.array([4, 1, 3]))

    return run


LENGTHS = np.array([5, 2, 3])
OURS = {
    "lenet": _lenet,
    "vgg, batch norm": _vgg,
    "vgg, in use": _vgg_in_use,
    "resnet, padding": _resnet("padding", False),
    "resnet, padding, pre-activation": _resnet("padding", True),
    "resnet, projection": _resnet("projection", False),
    "resnet, projection, pre-activation": _resnet("projection", True),
    "RNN, every step": _recurrent("rnn", False, True),
    "LSTM, both ways": _recurrent("lstm", True, False),
    "GRU": _recurrent("gru", False, False),
    "GRU, both ways, every step": _recurrent("gru", True, True),
    "decoder": _transformer(depth=2),
    "decoder, tied, sinusoidal": _transformer(tied=True, positions="sinusoidal"),
    "encoder, lengths": _transformer("encoder", lengths=LENGTHS),
    "encoder, post-norm, lengths": _transformer("encoder", lengths=LENGTHS, post_norm=True),
    "rotary, grouped": _rotary,
    "encoder_decoder": _encoder_decoder(False),
    "encoder_decoder, post-norm": _encoder_decoder(True),
}
BOTH = {"vgg, batch norm", "resnet, projection", "LSTM, both ways", "decoder"}  # jax.vjp besides reverse.vjp


def test_every_reference_is_looked_at():
    assert set(OURS) == set(REFERENCES)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.sampled(3)
def test_values_and_gradients(name):
    reference, fun = REFERENCES[name], OURS[name]
    params = {key: parameter(key, tuple(shape)) for key, shape in reference["shapes"].items()}

    @jax.jit
    def all_of(params):
        found = []
        for vjp in (reverse.vjp, jax.vjp)[: 2 if name in BOTH else 1]:
            out, pullback, moments = vjp(lambda p: fun(p)[::-1], params, has_aux=True)
            found.append((out, moments, pullback(jnp.asarray(golden(f"{name} ct", out.shape)))[0]))
        return found

    for out, moments, bars in jax.device_get(all_of(params)):
        _close(out.ravel()[:12], reference["out"])
        projection = np.sum(out * golden(f"{name} ct", out.shape))
        _close([np.linalg.norm(out), projection], [reference["out_norm"], reference["out_projection"]])
        assert set(bars) == set(reference["bars"])
        for key, bar in bars.items():
            found = [*bar.ravel()[:3], np.linalg.norm(bar), np.sum(bar * golden(key, bar.shape))]
            _close(found, reference["bars"][key], key)
        found = {} if moments is None else _by_norm(moments)
        assert len(found) == len(reference["moments"])
        for key, theirs in zip(sorted(found), sorted(reference["moments"])):
            mean, variance = reference["moments"][theirs]
            _close(found[key]["mean"], 0.1 * np.array(mean), key)
            _close(found[key]["variance"], 0.9 + 0.1 * np.array(variance), key)


def _close(found, expected, name=""):
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10, err_msg=name)


def _by_norm(moments):
    """{"stages/0/0/norm1": {"mean": ..., "variance": ...}, ...}"""
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(moments)[0]:
        *above, last = tree.path_name(path).split("/")
        found.setdefault("/".join(above), {})[last] = leaf
    return found
