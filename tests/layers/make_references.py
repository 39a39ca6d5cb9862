"""Makes references.json: values and cotangents of PyTorch's layers in float64, in PyTorch's own layout.

    pip install torch && python -m tests.layers.make_references

Each entry has the inputs by name, the output, a cotangent of it and the cotangents of the inputs.
"""

import torch
import torch.nn.functional as F

from tests.pytorch_references import References, draw

REFERENCES = References()
reference = REFERENCES.add

reference(
    "conv1d, causal and dilated",
    lambda x, w, b: F.conv1d(F.pad(x, (4, 0)), w, b, dilation=2),
    x=draw(2, 3, 6),
    w=draw(4, 3, 3),
    b=draw(4),
)
reference(
    "conv2d, stride and padding",
    lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1),
    x=draw(2, 3, 5, 6),
    w=draw(4, 3, 3, 2),
    b=draw(4),
)
reference(
    "conv2d, groups and same",
    lambda x, w, b: F.conv2d(x, w, b, padding="same", groups=2),
    x=draw(1, 4, 5, 4),
    w=draw(4, 2, 3, 2),
    b=draw(4),
)
reference("conv3d", lambda x, w: F.conv3d(x, w), x=draw(1, 2, 3, 4, 3), w=draw(2, 2, 2, 2, 2))
reference(
    "conv_transpose2d",
    lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2, padding=1),
    x=draw(2, 3, 3, 4),
    w=draw(3, 2, 3, 2),
    b=draw(2),
)
reference(
    "conv_transpose1d, groups and dilation",
    lambda x, w: F.conv_transpose1d(x, w, stride=2, dilation=2, groups=2),
    x=draw(1, 4, 5),
    w=draw(4, 1, 3),
)
reference("max_pool2d", lambda x: F.max_pool2d(x, (3, 2), (2, 1), (1, 0)), x=draw(2, 2, 5, 4))
reference("avg_pool2d, counted", lambda x: F.avg_pool2d(x, 2, 2, 1), x=draw(2, 2, 5, 4))
reference("avg_pool2d", lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), x=draw(2, 2, 5, 4))
reference(
    "batch_norm",
    lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True),
    x=draw(4, 3, 2, 2),
    g=draw(3),
    b=draw(3),
)
MOMENTS = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.5, 0.5, 2.0])
reference(
    "batch_norm in use", lambda x, g, b: F.batch_norm(x, *MOMENTS, g, b), x=draw(4, 3, 2, 2), g=draw(3), b=draw(3)
)
reference("layer_norm", lambda x, g, b: F.layer_norm(x, (3, 4), g, b), x=draw(2, 3, 4), g=draw(3, 4), b=draw(3, 4))
reference("rms_norm", lambda x, g: F.rms_norm(x, (4,), g, eps=1e-5), x=draw(2, 3, 4), g=draw(4))
reference("group_norm", lambda x, g, b: F.group_norm(x, 2, g, b), x=draw(2, 4, 3), g=draw(4), b=draw(4))
reference("embedding", lambda ids, w: F.embedding(ids, w), ids=torch.tensor([[1, 0, 1], [2, 1, 3]]), w=draw(4, 3))
MASK = torch.tensor([[True, False, True, True], [False, True, True, False], [True, True, True, True]])
reference(
    "attention, masked",
    lambda q, k, v: F.scaled_dot_product_attention(q, k, v, MASK),
    q=draw(2, 2, 3, 4),
    k=draw(2, 2, 4, 4),
    v=draw(2, 2, 4, 5),
)
reference(
    "attention, causal",
    lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    q=draw(1, 2, 4, 3),
    k=draw(1, 2, 4, 3),
    v=draw(1, 2, 4, 3),
)
reference(
    "attention, grouped",
    lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
    q=draw(1, 4, 3, 2),
    k=draw(1, 2, 5, 2),
    v=draw(1, 2, 5, 2),
)


def heads(x, w_in, b_in, w_out, b_out):
    return F.multi_head_attention_forward(
        x, x, x, x.shape[-1], 2, w_in, b_in, None, None, False, 0.0, w_out, b_out, need_weights=False
    )[0]


reference(
    "multi_head_attention", heads, x=draw(5, 2, 4), w_in=draw(12, 4), b_in=draw(12), w_out=draw(4, 4), b_out=draw(4)
)


def over_time(kind, lengths=None, bidirectional=False):
    module = getattr(torch.nn, kind)(3, 4, batch_first=True, bidirectional=bidirectional)

    def fun(x, **weights):
        if lengths is not None:
            x = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out = torch.func.functional_call(module, weights, (x,))[0]
        if lengths is None:
            return out
        return torch.nn.utils.rnn.pad_packed_sequence(out, batch_first=True, total_length=5)[0]

    return fun, {name: p.detach().clone() for name, p in module.named_parameters()}


for kind in ("RNN", "LSTM", "GRU"):
    for lengths, both in ((None, False), ([3, 5], False), ([4, 2], True)):
        fun, weights = over_time(kind, lengths, both)
        reference(f"{kind}, lengths {lengths}{', both ways' if both else ''}", fun, x=draw(2, 5, 3), **weights)

if __name__ == "__main__":
    REFERENCES.write(__file__, "references.json")
