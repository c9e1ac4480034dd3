"""What each operation of ATen does to labels.

An operation without a rule here fixes the order of all units that it is given, so what is not
known is never taken for a symmetry.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fxtransport.ot.symmetry.call import Call, tensors_in
from fxtransport.ot.symmetry.contractions import (
    at_channels,
    attention,
    convolution,
    normalized_over,
    product,
)
from fxtransport.ot.symmetry.labels import Labeled, joined, reduced, varying
from fxtransport.ot.symmetry.shaping import joined_pieces, padded, shaped

Rule = Callable[[Call], Any]
"""Returns what the operation returned, with labels."""

SAME = """
    abs alias celu clamp clamp_max clamp_min clone contiguous cos detach elu erf exp expm1 gelu
    hardsigmoid hardswish hardtanh leaky_relu lift_fresh_copy log log1p mish neg reciprocal relu
    relu6 round rsqrt selu sigmoid sign silu sin softplus sqrt square tanh _to_copy to
"""
PAIRWISE = """
    add sub rsub mul div maximum minimum pow where masked_fill addcmul
    addcdiv lerp _prelu_kernel
"""
SHAPED = """
    view _unsafe_view reshape permute transpose t unsqueeze squeeze expand slice select unbind
    split split_with_sizes flip roll index index_select narrow repeat unfold diagonal movedim
    _reshape_alias chunk
"""
REDUCED = "mean sum amax amin var std linalg_vector_norm logsumexp norm prod"
SPATIAL = """
    avg_pool1d avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices
    _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d reflection_pad2d
    replication_pad2d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d
    _upsample_bilinear2d_aa _upsample_bicubic2d_aa
"""
SUMS = ("add", "sub", "rsub")


def labeled_output(call: Call) -> Any:
    """What an operation returned, with its labels."""
    rule = RULES.get(call.name)
    return call.unknown() if rule is None else rule(call)


def _same(call: Call) -> Any:
    return call.wrapped(call.returned, call.args[0].labels)


def _pairwise(call: Call) -> Any:
    is_sum = call.name in SUMS
    first, *others = tensors_in(*call.args)
    for other in others:
        ndim = max(first.value.dim(), other.value.dim())
        labels = joined(call.units, first, other, ndim, is_sum=is_sum)
        shape = torch.broadcast_shapes(first.shape, other.shape)
        first = Labeled(
            torch.empty(shape, device="meta"),
            tuple(labels),
            first.depends or other.depends,
            first.owned or other.owned,
        )
    return call.wrapped(call.returned, first.labels)


def _reduced(call: Call) -> Any:
    x = call.args[0]
    given = call.named
    dims = given.get("dim")
    chosen = range(x.value.dim()) if dims in (None, []) else np.atleast_1d(dims).tolist()
    over = frozenset(d % x.value.dim() for d in chosen)
    labels = reduced(call.units, x.labels, over)
    if not given.get("keepdim"):
        labels = [label.squeeze(tuple(over)) for label in labels]
    if isinstance(call.returned, list | tuple):
        return [call.wrapped(each, labels) for each in call.returned]
    return call.wrapped(call.returned, labels)


def _spatial(call: Call) -> Any:
    """Something of each channel's map, B×C×…."""
    x = call.args[0]
    positions = set(range(2, x.value.dim()))
    for label in x.labels:
        if varying(label) & positions:
            call.units.fix(label)
    labels = [label for label in x.labels if not varying(label) & positions]
    return call.wrapped(call.returned, labels)


def _softmax(call: Call) -> Any:
    x, dim, *_ = call.args
    normalized_over(call.units, x, frozenset({dim % x.value.dim()}))
    return call.wrapped(call.returned, x.labels)


def _product(call: Call) -> Any:
    bias, one, other = call.args if len(call.args) == 3 else (None, *call.args[:2])
    labels = product(call.units, one, other)
    found = call.wrapped(call.returned, labels)
    if bias is None or isinstance(bias, int | float):
        return found
    labels = joined(call.units, found, bias, call.returned.dim(), is_sum=True)
    return call.wrapped(call.returned, labels)


def _convolution(call: Call) -> Any:
    x, weight, bias, _, _, _, is_transposed, _, groups = call.args
    labels = convolution(call.units, x, weight, groups, is_transposed=is_transposed)
    found = call.wrapped(call.returned, labels)
    bias = at_channels(bias, call.returned.dim(), found)
    labels = joined(call.units, found, bias, call.returned.dim())
    return call.wrapped(call.returned, labels)


def _attention(call: Call) -> Any:
    given = call.named
    bias = given.get("attn_mask") or given.get("attn_bias")
    query, key, value = call.args[:3]
    labels = attention(call.units, query, key, value, bias)
    return call.wrapped(call.returned, labels)


def _batch_norm(call: Call) -> Any:
    x, *vectors = call.args[:5]
    output = call.returned[0]
    found = x
    for vector in vectors:
        scale = at_channels(vector, output.dim(), x)
        found = found.with_labels(joined(call.units, found, scale, output.dim()))
        found = replace(found, owned=True)
    return call.wrapped(call.returned, found.labels)


def _layer_norm(call: Call) -> Any:
    x, shape, *vectors = call.args
    dims = frozenset(range(x.value.dim() - len(shape), x.value.dim()))
    normalized_over(call.units, x, dims)
    found = x
    for vector in tensors_in(*vectors):
        found = found.with_labels(joined(call.units, found, vector, x.value.dim()))
    return call.wrapped(call.returned, found.labels)


def _group_norm(call: Call) -> Any:
    x, weight, bias, _, _, _, groups, *_ = call.args
    if 1 < groups < x.shape[1]:
        return call.unknown()
    found = x
    for vector in (weight, bias):
        scale = at_channels(vector, x.value.dim(), x)
        found = found.with_labels(joined(call.units, found, scale, x.value.dim()))
    return call.wrapped(call.returned, found.labels)


def _embedding(call: Call) -> Any:
    """Rows of a table, of which each has its meaning."""
    table, indices, *_ = call.args
    kept = []
    for label in table.labels:
        if 0 in varying(label):
            call.units.fix(label)
        else:
            kept.append(label.reshape((1,) * indices.value.dim() + label.shape[1:]))
    return call.wrapped(call.returned, kept)


RULES: dict[str, Rule] = {
    **dict.fromkeys(SAME.split(), _same),
    **dict.fromkeys(PAIRWISE.split(), _pairwise),
    **dict.fromkeys(SHAPED.split(), shaped),
    **dict.fromkeys(REDUCED.split(), _reduced),
    **dict.fromkeys(SPATIAL.split(), _spatial),
    "var_mean": _reduced,
    "cat": joined_pieces,
    "stack": joined_pieces,
    "constant_pad_nd": padded,
    "_softmax": _softmax,
    "_log_softmax": _softmax,
    "mm": _product,
    "bmm": _product,
    "addmm": _product,
    "baddbmm": _product,
    "convolution": _convolution,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
    "_scaled_dot_product_attention_math": _attention,
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "cudnn_batch_norm": _batch_norm,
    "native_layer_norm": _layer_norm,
    "_fused_rms_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "embedding": _embedding,
}
