"""Transformers: a language model with a cache, an encoder, and an encoder with a decoder."""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict, Unpack, overload

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Bool, Float, Integer

from functional_dl import arguments, initializers, layers
from functional_dl.aliases import Array, Key, Params, PyTree
from functional_dl.arguments import array, concrete, entry, integer, within
from functional_dl.layers.layer import Layer, layer_path
from functional_dl.models.model import Model
from functional_dl.models.parts import Function, function_of, keys_of, layers_of, real_steps, zero_past
from functional_dl.precision import of_sums
from functional_dl.sharding import broadcast_like, laid_along

Kind: TypeAlias = Literal["decoder", "encoder", "encoder_decoder"]
KINDS = ("decoder", "encoder", "encoder_decoder")
Positions: TypeAlias = Literal["learned", "rotary", "sinusoidal"]
POSITIONS = ("learned", "rotary", "sinusoidal")


class LanguageModel(NamedTuple):
    """A causal network over tokens: init(key) -> params, apply(params, tokens, ...) -> logits.

    For a sequence that comes piece by piece: initial(batch_shape, length) -> cache, extend(params, cache, tokens) ->
    (cache, logits).  generate(params, key, prompt, steps, temperature=1.0) -> tokens draws what may follow.
    """

    init: Callable[..., Params]
    apply: Callable[..., Array]
    initial: Callable[..., PyTree]
    extend: Callable[..., tuple[PyTree, Array]]
    generate: Callable[..., Array]


class EncoderDecoder(NamedTuple):
    """A causal network over tokens that reads a source: init(key) -> params, apply(params, source, tokens, ...) ->
    logits.

    encode(params, source, source_lengths=None) -> memory is its first half; initial(params, memory, length,
    source_lengths=None) -> cache, extend(params, cache, tokens) -> (cache, logits) and generate(params, key, source,
    prompt, steps, ...) -> tokens as of a LanguageModel.
    """

    init: Callable[..., Params]
    apply: Callable[..., Array]
    encode: Callable[..., Array]
    initial: Callable[..., PyTree]
    extend: Callable[..., tuple[PyTree, Array]]
    generate: Callable[..., Array]


class _Options(TypedDict, total=False):
    """Of all overloads."""

    hidden: int | None
    key_value_heads: int | None
    positions: Positions
    post_norm: bool
    tied: bool
    out_features: int | None
    source_vocabulary: int | None
    dropout_rate: float
    activation: Function
    use_bias: bool
    epsilon: float
    initializer: initializers.Name | Callable[..., Array]
    dtype: DTypeLike | None


@overload
def transformer(
    vocabulary: int,
    features: int,
    heads: int,
    depth: int,
    length: int,
    kind: Literal["decoder"] = ...,
    **options: Unpack[_Options],
) -> LanguageModel: ...


@overload
def transformer(
    vocabulary: int,
    features: int,
    heads: int,
    depth: int,
    length: int,
    kind: Literal["encoder"],
    **options: Unpack[_Options],
) -> Model: ...


@overload
def transformer(
    vocabulary: int,
    features: int,
    heads: int,
    depth: int,
    length: int,
    kind: Literal["encoder_decoder"],
    **options: Unpack[_Options],
) -> EncoderDecoder: ...


def transformer(
    vocabulary: int,
    features: int,
    heads: int,
    depth: int,
    length: int,
    kind: Kind = "decoder",
    *,
    hidden: int | None = None,
    key_value_heads: int | None = None,
    positions: Positions = "learned",
    post_norm: bool = False,
    tied: bool = False,
    out_features: int | None = None,
    source_vocabulary: int | None = None,
    dropout_rate: float = 0.0,
    activation: Function = "gelu",
    use_bias: bool = True,
    epsilon: float = 1e-5,
    initializer: initializers.Name | Callable[..., Array] = "glorot_uniform",
    dtype: DTypeLike | None = None,
) -> LanguageModel | Model | EncoderDecoder:
    """Blocks of attention and a dense pair over embedded tokens:

    x = sqrt(d) E_token + p_t;   in each block  x <- x + attend(norm x),  x <- x + W_2 f(W_1 norm x + b_1) + b_2,
    and with a source  x <- x + attend(norm x, memory)  between the two;   logits = norm(x) W + b, tied: norm(x) E^T.

    With post_norm  x <- norm(x + attend(x)), likewise the others, and no norm before the logits.

    The pullback of each sum hands x_bar on as it is and adds attend's (`dot_product_attention`), the dense layers' and
    the norm's (`layer_norm`) own.  E_bar sums over the places of a token, and, tied, over both of its uses.

    Args:
      vocabulary: tokens are integers in [0, vocabulary).
      features: d.
      heads: of each attention, a divisor of d.
      depth: blocks, of the encoder and of the decoder each.
      length: the longest sequence.
      kind: "decoder", in which a token sees those before it; "encoder", in which it sees all; "encoder_decoder", a
        decoder that also sees all of a source's.
      hidden: between the dense pair, 4 d if not given.
      key_value_heads: of keys and values, a divisor of heads (grouped queries); heads if not given.
      positions: p is "learned" (scaled as E is) or "sinusoidal"; "rotary" has no p and turns queries and keys of the
        attention among the tokens.
      post_norm: norms behind each sum instead of before each layer.
      tied: E is the last layer's weight too; of an encoder_decoder, the decoder's.
      out_features: logits of each token, vocabulary if not given.
      source_vocabulary: of the source, vocabulary if not given.
      dropout_rate: of embeddings, attention weights and what each layer adds, in [0, 1).
      activation: f, a name, an Activation or a function.
      use_bias: whether the dense layers have biases.
      epsilon: of the norms.
      initializer, dtype: of the dense layers' weights; E and p start normal with variance 1 / d.
    Returns:
      "encoder": Model; "decoder": LanguageModel; both with apply(params, tokens, lengths=None, *, mask=None, key=None,
      deterministic=False), tokens (*batch, time), logits (*batch, time, vocabulary).  lengths (*batch,) or mask
      (*batch, time), True at real tokens: the others are not attended to, may have any number, and their logits are 0.
      initial(batch_shape, length=None) -> cache; extend(params, cache, tokens) -> (cache, logits) takes the next tokens
      of all sequences and equals apply on the whole; generate(params, key, prompt, steps, temperature=1.0) -> tokens
      (*batch, steps), drawn from softmax(logits / temperature) one after the other, at temperature 0 the most probable.
      "encoder_decoder": EncoderDecoder with apply(params, source, tokens, source_lengths=None, lengths=None, *,
      key=None, deterministic=False), see there; generate takes source_lengths= too.

      params: {"embedding", "positions", "blocks": [{"attention_norm", "attention", "mlp_norm", "hidden", "output"},
      ...], "norm", "head"}, of an encoder_decoder {"encoder": ..., "decoder": ...}, whose blocks have
      "cross_attention_norm" and "cross_attention" besides.

      Number of parameters, with V = vocabulary, T = length, m = hidden, e = d key_value_heads / heads: V d, + T d of
      learned positions, + depth (2 d^2 + 2 d e + 2 d m + [2 d + 2 e + m + d] + 4 d), + 2 d without post_norm, + d V +
      [V] untied; a decoder's block with a source has 2 d^2 + 2 d e + [2 d + 2 e] + 2 d more.  What stands in brackets
      are biases.
    Raises:
      ValueError: heads do not divide; no such kind or positions; tokens, lengths, mask, cache or params do not fit; a
        concrete token lies outside the vocabulary; a sequence beyond `length` or the cache (where its position is not
        concrete, NaN); generate with a negative temperature.
      TypeError: a size is no integer, tokens are none.
    Kinks: the activation's.
    Numerics: as `dot_product_attention`; cached and at once the same to rounding; tokens are drawn in float32 at least.
    Source: Vaswani et al. 2017; pre-norm, Xiong et al. 2020; tied, Press and Wolf 2017; rotary, Su et al. 2021.

    Example:
      >>> model = models.transformer(11, 8, 2, 1, 6)
      >>> model.apply(model.init(jax.random.key(0)), jnp.arange(6)[None]).shape
      (1, 6, 11)
    """
    arguments.choice("kind", kind, KINDS)
    arguments.choice("positions", positions, POSITIONS)
    within("dropout_rate", dropout_rate, 0.0, 1.0, open_right=True)
    outs = vocabulary if out_features is None else integer("out_features", out_features)
    if tied and outs != vocabulary:
        raise ValueError(f"out_features: expected the vocabulary {vocabulary} with tied embeddings, got {outs}")
    if source_vocabulary is not None and kind != "encoder_decoder":
        raise ValueError(f"source_vocabulary: expected none for kind {kind!r}, which has no source")
    if positions == "sinusoidal" and integer("features", features) % 2:
        raise ValueError(f"features: expected an even number for sinusoidal positions, got {features}")
    sizes = _Sizes(
        integer("features", features),
        integer("heads", heads),
        key_value_heads,
        4 * features if hidden is None else integer("hidden", hidden),
        integer("depth", depth),
        integer("length", length),
        positions,
        post_norm,
        dropout_rate,
        function_of(activation),
        use_bias,
        epsilon,
        initializer,
        dtype,
    )
    tower = _tower(sizes, integer("vocabulary", vocabulary), None if tied else outs, tied, kind == "encoder_decoder")
    if kind == "encoder":
        return _encoder(tower)
    if kind == "decoder":
        return _language_model(tower)
    source = vocabulary if source_vocabulary is None else integer("source_vocabulary", source_vocabulary)
    return _encoder_decoder(_tower(sizes, source, None, False, False), tower)


class _Sizes(NamedTuple):
    """What all blocks have in common."""

    features: int
    heads: int
    key_value_heads: int | None
    hidden: int
    depth: int
    length: int
    positions: Positions
    post_norm: bool
    dropout_rate: float
    activation: Callable[[Array], Array]
    use_bias: bool
    epsilon: float
    initializer: initializers.Name | Callable[..., Array]
    dtype: DTypeLike | None


class _Tower(NamedTuple):
    """Embedding, blocks and logits over one sequence of tokens.

    init(key); run(params, tokens, real, causal, memory, key, deterministic) -> y; initial(batch_shape, length, dtype);
    advance(params, cache, tokens, memory) -> (cache, y); logits(params, y).  memory is (keys and values of each block's
    cross attention, mask).
    """

    vocabulary: int
    length: int
    depth: int
    init: Callable[..., Params]
    run: Callable[..., Array]
    memory: Callable[..., Any]
    initial: Callable[..., PyTree]
    advance: Callable[..., tuple[PyTree, Array]]
    logits: Callable[..., Array]


def _tower(sizes: _Sizes, vocabulary: int, outs: int | None, tied: bool, cross: bool) -> _Tower:
    features, depth, rate, dtype = sizes.features, sizes.depth, sizes.dropout_rate, sizes.dtype
    dense = functools.partial(layers.dense, use_bias=sizes.use_bias, initializer=sizes.initializer, dtype=dtype)
    attend = functools.partial(
        layers.attention,
        features,
        sizes.heads,
        sizes.key_value_heads,
        use_bias=sizes.use_bias,
        initializer=sizes.initializer,
        dtype=dtype,
    )
    norm = layers.layer_norm(features, epsilon=sizes.epsilon, dtype=dtype)
    self_attention = attend(rotary=sizes.positions == "rotary")
    block_layers = {"attention_norm": norm, "attention": self_attention}
    block_layers |= {"cross_attention_norm": norm, "cross_attention": attend()} if cross else {}
    head_width = features // sizes.heads
    of_keys = dense(features, head_width * (sizes.key_value_heads or sizes.heads))
    of_queries = dense(features, features)
    block_layers |= {"mlp_norm": norm, "hidden": dense(features, sizes.hidden), "output": dense(sizes.hidden, features)}
    embedding = layers.embedding(vocabulary, features, dtype=dtype)
    places = layers.embedding(sizes.length, features, dtype=dtype) if sizes.positions == "learned" else None
    around: dict[str, Layer] = {"embedding": embedding}
    around |= {} if places is None else {"positions": places}
    around |= {} if sizes.post_norm else {"norm": norm}
    head = None if outs is None else dense(features, outs)
    around |= {} if head is None else {"head": head}

    def init(key: Key) -> Params:
        *keys, last = jax.random.split(arguments.key("key", key), depth + 1)
        blocks = [_made(block_layers, k) for k in keys]
        return _made(around, last) | {"blocks": blocks}

    def applied(layer, params, name, x):
        given = entry("params", params, name)
        with layer_path(name):
            return layer.apply(given, x)

    def embed(params, tokens, start):
        x = applied(embedding, params, "embedding", tokens) * math.sqrt(features)
        if sizes.positions == "rotary":
            return x
        t = start + jnp.arange(tokens.shape[-1], dtype=jnp.int32)
        if places is not None:
            p = applied(places, params, "positions", t) * math.sqrt(features)
        else:
            p = layers.sinusoidal_positions(sizes.length, features, x.dtype)
            p = jnp.take(p, t, axis=0, mode="fill")
        return x + broadcast_like(p, x)

    def dropped(key, deterministic):
        return {} if deterministic or key is None else {"dropout_rate": rate, "dropout_key": key}

    def block(params, x, mix, memory, keys, deterministic):
        """A block whose attention among the tokens is mix(params, x) -> (what it carries, y)."""
        carried = []

        def mixed(x):
            given = entry("params", params, "attention")
            with layer_path("attention"):
                carry, y = mix(given, x)
            carried.append(carry)
            return y

        def crossed(x):
            given = entry("params", params, "cross_attention")
            with layer_path("cross_attention"):
                query = _by_heads(applied(of_queries, given, "query", x), head_width)
                y = layers.dot_product_attention(query, *memory, **dropped(keys[3], deterministic))
                return applied(of_queries, given, "output", y.reshape(x.shape))

        def mlp(x):
            h = sizes.activation(applied(block_layers["hidden"], params, "hidden", x))
            return applied(block_layers["output"], params, "output", h)

        steps = [("attention_norm", mixed), ("cross_attention_norm", crossed), ("mlp_norm", mlp)]
        for (name, step), key in zip(steps, keys):
            if name not in block_layers:
                continue
            if sizes.post_norm:
                x = applied(norm, params, name, x + layers.dropout(key, step(x), rate, deterministic))
            else:
                x = x + layers.dropout(key, step(applied(norm, params, name, x)), rate, deterministic)
        return carried[0], x

    def blocks_of(params):
        return layers_of("params", params, "blocks", depth)

    def finished(params, x):
        return x if sizes.post_norm else applied(norm, params, "norm", x)

    def run(params, tokens, real, causal, memory, key, deterministic):
        if real is not None:
            tokens = tokens * real.astype(tokens.dtype)  # 0 where nothing is real: the embedding refuses nothing there
        keys = keys_of(key, depth + 1)
        x = layers.dropout(keys[0], embed(params, tokens, 0), rate, deterministic)
        mask = None if real is None else laid_along(real, x)[..., None, None, :]
        for b, given in enumerate(blocks_of(params)):
            of_block = keys_of(keys[b + 1], 5)

            def mix(given, x, key=of_block[4]):
                return None, self_attention.apply(given, x, mask=mask, causal=causal, **dropped(key, deterministic))

            with layer_path(f"blocks/{b}"):
                _, x = block(given, x, mix, None if memory is None else memory[b], of_block, deterministic)
        return finished(params, x)

    def memory_of(params, encoded, real):
        """Keys and values of each block's cross attention, and the mask."""
        mask = None if real is None else laid_along(real, encoded)[..., None, None, :]
        found = []
        for b, given in enumerate(blocks_of(params)):
            given = entry("params", given, "cross_attention")
            with layer_path(f"blocks/{b}/cross_attention"):
                keys, values = (applied(of_keys, given, name, encoded) for name in ("key", "value"))
                found.append((_by_heads(keys, head_width), _by_heads(values, head_width), mask))
        return found

    def initial(batch_shape: tuple[int, ...], room: int | None, of: DTypeLike | None):
        of = dtype if of is None else of
        room = sizes.length if room is None else integer("length", room)
        if room > sizes.length:
            raise ValueError(f"length: expected at most {sizes.length}, the longest sequence, got {room}")
        return [self_attention.initial(batch_shape, room, of) for _ in range(depth)]

    def advance(params, cache, tokens, memory):
        start, kept = entry("cache['blocks'][0]", cache[0], "position"), cache[0]["key"].shape
        batch, room = kept[:-3], kept[-3]
        if tokens.shape[:-1] != batch:
            raise ValueError(f"tokens: expected the batch axes of the cache, {batch}, got shape {tokens.shape}")
        known = concrete(start)
        if known is not None and int(known) + tokens.shape[-1] > room:
            left = room - int(known)
            raise ValueError(
                f"tokens: expected at most {left} more in this cache of {room} positions, got {tokens.shape[-1]}"
            )
        x, moved = embed(params, tokens, start), []
        for b, given in enumerate(blocks_of(params)):

            def mix(given, x, before=cache[b]):
                return self_attention.extend(given, before, x)

            with layer_path(f"blocks/{b}"):
                after, x = block(given, x, mix, None if memory is None else memory[b], [None] * 5, True)
            moved.append(after)
        return moved, finished(params, x)

    def logits(params, y):
        if head is not None:
            return applied(head, params, "head", y)
        if not tied:
            return y
        given = entry("params", params, "embedding")
        with layer_path("embedding"):
            return jnp.dot(y, jnp.swapaxes(entry("params", given, "weight"), 0, 1))

    return _Tower(vocabulary, sizes.length, depth, init, run, memory_of, initial, advance, logits)


def _made(found, key):
    return {name: layer.init(k) for (name, layer), k in zip(found.items(), jax.random.split(key, len(found)))}


def _by_heads(x, d):
    return x.reshape(*x.shape[:-1], x.shape[-1] // d, d)


def _checked(name: str, tokens: Any, vocabulary: int, length: int, real: Any = None) -> Array:
    """Tokens, integers (*batch, time)."""
    tokens = array(name, tokens)
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(f"{name}: expected integers, got dtype {tokens.dtype}")
    if tokens.ndim < 1 or tokens.shape[-1] < 1:
        raise ValueError(f"{name}: expected shape (*batch, time), got {tokens.shape}")
    if tokens.shape[-1] > length:
        raise ValueError(f"{name}: expected a time axis (-1) of at most {length}, got shape {tokens.shape}")
    values, there = concrete(tokens), True if real is None else concrete(real)
    if values is not None and there is not None:
        outside = ((values < 0) | (values >= vocabulary)) & there
        if outside.any():
            with layer_path("embedding"):
                raise ValueError(f"{name}: expected integers in [0, {vocabulary}), got {values[outside].flat[0]}")
    return tokens


def _real(name: str, tokens: Any, lengths: Any, mask: Any = None) -> Bool[Array, "*batch time"] | None:
    """Which tokens are real, if any is not."""
    tokens = array(name, tokens)
    if lengths is not None:
        if mask is not None:
            raise ValueError("mask: expected lengths or a mask, got both")
        return None if tokens.ndim < 1 else real_steps(lengths, tokens[..., None])
    if mask is None:
        return None
    mask = array("mask", mask)
    if mask.dtype != bool:
        raise TypeError(f"mask: expected booleans, True at real tokens, got dtype {mask.dtype}")
    if mask.shape != tokens.shape:
        raise ValueError(f"mask: expected the shape of {name}, {tokens.shape}, got {mask.shape}")
    return mask


def _one_sequence(tower: _Tower, causal: bool) -> Callable[..., Array]:
    def apply(
        params: Params,
        tokens: Integer[Array, "*batch time"],
        lengths: Integer[Array, "*batch"] | None = None,
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        key: Key | None = None,
        deterministic: bool = False,
    ) -> Float[Array, "*batch time classes"]:
        real = _real("tokens", tokens, lengths, mask)
        tokens = _checked("tokens", tokens, tower.vocabulary, tower.length, real)
        y = tower.run(params, tokens, real, causal, None, key, deterministic)
        return zero_past(tower.logits(params, y), real)

    return apply


def _encoder(tower: _Tower) -> Model:
    return Model(tower.init, _one_sequence(tower, False))


def _language_model(tower: _Tower) -> LanguageModel:
    def initial(batch_shape: tuple[int, ...] = (), length: int | None = None, dtype: DTypeLike | None = None) -> PyTree:
        return {"blocks": tower.initial(batch_shape, length, dtype)}

    def extend(params: Params, cache: PyTree, tokens: Integer[Array, "*batch n"]) -> tuple[PyTree, Array]:
        tokens = _checked("tokens", tokens, tower.vocabulary, tower.length)
        blocks = layers_of("cache", cache, "blocks", tower.depth)
        blocks, y = tower.advance(params, blocks, tokens, None)
        return {"blocks": blocks}, tower.logits(params, y)

    def generate(
        params: Params,
        key: Key,
        prompt: Integer[Array, "*batch time"],
        steps: int,
        temperature: ArrayLike = 1.0,
    ) -> Integer[Array, "*batch steps"]:
        prompt = _to_continue(tower, prompt, steps, temperature)
        return sampled(params, arguments.key("key", key), prompt, steps, temperature)

    @functools.partial(jax.jit, static_argnames="steps")
    def sampled(params, key, prompt, steps, temperature):
        return _sampled(tower, params, key, prompt, steps, temperature, None)

    return LanguageModel(tower.init, _one_sequence(tower, True), initial, extend, generate)


def _encoder_decoder(encoder: _Tower, decoder: _Tower) -> EncoderDecoder:
    def init(key: Key) -> Params:
        keys = jax.random.split(arguments.key("key", key))
        return {"encoder": encoder.init(keys[0]), "decoder": decoder.init(keys[1])}

    def encoded(params, source, lengths, key, deterministic):
        real = _real("source", source, lengths)
        with layer_path("encoder"):
            source = _checked("source", source, encoder.vocabulary, encoder.length, real)
            y = encoder.run(entry("params", params, "encoder"), source, real, False, None, key, deterministic)
        return zero_past(y, real), real

    def apply(
        params: Params,
        source: Integer[Array, "*batch source"],
        tokens: Integer[Array, "*batch time"],
        source_lengths: Integer[Array, "*batch"] | None = None,
        lengths: Integer[Array, "*batch"] | None = None,
        *,
        key: Key | None = None,
        deterministic: bool = False,
    ) -> Float[Array, "*batch time classes"]:
        keys = keys_of(key, 2)
        memory, there = encoded(params, source, source_lengths, keys[0], deterministic)
        real = _real("tokens", tokens, lengths)
        given = entry("params", params, "decoder")
        with layer_path("decoder"):
            tokens = _checked("tokens", tokens, decoder.vocabulary, decoder.length, real)
            _same_batch(tokens, memory)
            crossed = decoder.memory(given, memory, there)
            y = decoder.run(given, tokens, real, True, crossed, keys[1], deterministic)
            return zero_past(decoder.logits(given, y), real)

    def encode(
        params: Params,
        source: Integer[Array, "*batch source"],
        source_lengths: Integer[Array, "*batch"] | None = None,
    ) -> Float[Array, "*batch source d"]:
        return encoded(params, source, source_lengths, None, True)[0]

    def initial(
        params: Params,
        memory: Float[Array, "*batch source d"],
        length: int | None = None,
        source_lengths: Integer[Array, "*batch"] | None = None,
    ) -> PyTree:
        real = None if source_lengths is None else real_steps(source_lengths, memory)
        given = entry("params", params, "decoder")
        with layer_path("decoder"):
            return {
                "blocks": decoder.initial(memory.shape[:-2], length, memory.dtype),
                "memory": decoder.memory(given, memory, real),
            }

    def extend(params: Params, cache: PyTree, tokens: Integer[Array, "*batch n"]) -> tuple[PyTree, Array]:
        given = entry("params", params, "decoder")
        with layer_path("decoder"):
            tokens = _checked("tokens", tokens, decoder.vocabulary, decoder.length)
            blocks = layers_of("cache", cache, "blocks", decoder.depth)
            memory = layers_of("cache", cache, "memory", decoder.depth)
            blocks, y = decoder.advance(given, blocks, tokens, memory)
            return {"blocks": blocks, "memory": memory}, decoder.logits(given, y)

    def generate(
        params: Params,
        key: Key,
        source: Integer[Array, "*batch source"],
        prompt: Integer[Array, "*batch time"],
        steps: int,
        temperature: ArrayLike = 1.0,
        *,
        source_lengths: Integer[Array, "*batch"] | None = None,
    ) -> Integer[Array, "*batch steps"]:
        real = _real("source", source, source_lengths)
        source = _checked("source", source, encoder.vocabulary, encoder.length, real)
        prompt = _to_continue(decoder, prompt, steps, temperature)
        return sampled(params, arguments.key("key", key), source, prompt, steps, temperature, source_lengths)

    @functools.partial(jax.jit, static_argnames="steps")
    def sampled(params, key, source, prompt, steps, temperature, source_lengths):
        memory, real = encoded(params, source, source_lengths, None, True)
        crossed = decoder.memory(params["decoder"], memory, real)
        return _sampled(decoder, params["decoder"], key, prompt, steps, temperature, crossed)

    return EncoderDecoder(init, apply, encode, initial, extend, generate)


def _same_batch(tokens, memory):
    if tokens.shape[:-1] != memory.shape[:-2]:
        raise ValueError(f"tokens: expected the batch axes of source, {memory.shape[:-2]}, got shape {tokens.shape}")


def _to_continue(tower, prompt, steps, temperature):
    """The prompt, checked with what is to follow it."""
    prompt = _checked("prompt", prompt, tower.vocabulary, tower.length)
    within("temperature", arguments.number("temperature", temperature), 0.0, math.inf)
    whole = prompt.shape[-1] + integer("steps", steps) - 1
    if whole > tower.length:
        most = tower.length - prompt.shape[-1] + 1
        raise ValueError(
            f"steps: expected at most {most} after a prompt of {prompt.shape[-1]}, for sequences of at most "
            f"{tower.length}, got {steps}"
        )
    return prompt


def _sampled(tower, params, key, prompt, steps, temperature, memory):
    """Tokens that follow the prompt, one after the other.

    The largest of z / temperature + g, g Gumbel, has the law softmax(z / temperature); z + temperature g has it at the
    same place, and at temperature 0 is z.
    """
    of = entry("params", entry("params", params, "embedding"), "weight").dtype
    room = prompt.shape[-1] + steps - 1
    cache = tower.initial(prompt.shape[:-1], room, of)
    cache, y = tower.advance(params, cache, prompt, memory)

    def drawn(key, y):
        z = tower.logits(params, y[..., -1:, :])[..., 0, :]
        z = z.astype(of_sums(z.dtype))
        noise = jax.random.gumbel(key, z.shape, z.dtype)
        return jnp.argmax(z + jnp.asarray(temperature, z.dtype) * noise, axis=-1).astype(prompt.dtype)

    def step(carry, key):
        cache, token = carry
        cache, y = tower.advance(params, cache, token[..., None], memory)
        token = drawn(key, y)
        return (cache, token), token

    keys = jax.random.split(key, steps)
    first = drawn(keys[0], y)
    _, rest = lax.scan(step, (cache, first), keys[1:])
    return jnp.concatenate([first[..., None], jnp.moveaxis(rest, 0, -1)], axis=-1)
