"""The names of operators that a profile may say a processor cannot run.

They are the names of aten operators (``conv2d``, ``layer_norm``) as a model's costs list them; a name that is not here
is a slip of the pen, and would silently forbid nothing.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from ebbtide.errors import nearest

OPERATORS: Final = frozenset(
    {
        "_convolution", "_softmax", "abs", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d",
        "adaptive_max_pool2d", "add", "addmm", "alias", "amax", "amin", "arange", "avg_pool1d", "avg_pool2d",
        "avg_pool3d", "baddbmm", "batch_norm", "bmm", "cat", "celu", "channel_shuffle", "chunk", "clamp", "clamp_max",
        "clamp_min", "clone", "concat", "constant_pad_nd", "contiguous", "conv1d", "conv2d", "conv3d",
        "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution", "cos", "cumsum", "detach", "div",
        "dot", "dropout", "einsum", "elu", "embedding", "erf", "exp", "expand", "expand_as", "feature_dropout",
        "flatten", "flip", "gather", "gelu", "getitem", "glu", "group_norm", "hardsigmoid", "hardswish", "hardtanh",
        "index", "index_select", "instance_norm", "layer_norm", "leaky_relu", "linalg_vector_norm", "linear", "log",
        "log_softmax", "log_sigmoid", "masked_fill", "matmul", "max", "max_pool1d", "max_pool2d", "max_pool3d",
        "maximum", "mean", "min", "minimum", "mish", "mm", "movedim", "mul", "mv", "narrow", "native_layer_norm",
        "neg", "ones_like", "pad", "permute", "pixel_shuffle", "pixel_unshuffle", "pow", "prelu", "reciprocal",
        "reflection_pad2d", "relu", "relu6", "repeat", "replication_pad2d", "reshape", "rms_norm", "roll", "rsqrt",
        "rsub", "scaled_dot_product_attention", "select", "selu", "sigmoid", "silu", "sin", "slice", "softmax",
        "softplus", "split", "split_with_sizes", "sqrt", "squeeze", "stack", "std", "sub", "sum", "swapaxes", "t",
        "tanh", "tensor_split", "threshold", "to", "topk", "transpose", "type_as", "unbind", "unflatten", "unsqueeze",
        "upsample_bilinear2d", "upsample_nearest2d", "var", "view", "view_as", "where", "zeros", "zeros_like",
    }
)  # fmt: skip
"""An operator that works in place (``relu_``) is named without the underscore."""


def _known(name: str) -> str:
    if name not in OPERATORS:
        close = nearest(name, sorted(OPERATORS))
        raise ValueError(f"there is no operator {name!r}" + (f"; did you mean {close!r}?" if close else ""))
    return name


OperatorName = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": sorted(OPERATORS)})]
