"""The options that users choose from, and the kinds of what is found in a model."""

from enum import StrEnum


class Kind(StrEnum):
    """What the skip operand of a residual addition is; see ``docs/residuals.md``."""

    IDENTITY = "identity"
    """The block's input itself, or a view or slice of it."""
    PROJECTION = "projection"
    """The block's input through a learned, scaled or pooling shortcut."""
    IDENTITY_BN = "identity_bn"
    """The block's input through a bare batch normalization."""
    INNER = "inner"
    """Inside a branch, not the block's own addition; never tapped."""


TAPPED_KINDS = (Kind.IDENTITY, Kind.PROJECTION, Kind.IDENTITY_BN)
"""Kinds whose residues are outputs of a program."""


class Balance(StrEnum):
    """What the parts of a program have in equal amounts."""

    DEPTH = "depth"
    """Residual blocks (THESIS 4.5.3, equally deep)."""
    ACTIVATIONS = "activations"
    """Bytes saved for backward at a batch size (THESIS 4.5.3, equally heavy)."""
    PARAMETERS = "parameters"
    """Number of parameters."""
    FLOPS = "flops"
    """Floating-point operations of one forward pass of one sample, a multiply-add as two."""
    MEMORY = "memory"
    """The peak memory of training: what is held all along, with the heads, and what the training
    step of the heaviest part holds at its peak."""


class Amp(StrEnum):
    """The precision in which a forward runs, where operators allow it."""

    NONE = "none"
    """That of its tensors."""
    BF16 = "bf16"
    FP16 = "fp16"


class HeadKind(StrEnum):
    """The architecture of an auxiliary classifier."""

    AUTO = "auto"
    """Chosen by the layout of the hidden tensor: ``conv`` or ``token``."""
    CONV = "conv"
    """Average pool to a few positions, 1×1 and 3×3 convolution, each with batch norm and ReLU,
    average pool to 2×2, linear."""
    TOKEN = "token"
    """Layer norm, mean over positions, linear."""
    DGL = "dgl"
    """As ``auto``, with the convolutional head of DGL: 3×3 convolution, ReLU, average pool to
    2×2, batch norm, linear."""
    DGL_CONV = "dgl_conv"
    """As ``conv``, with the convolutional head of DGL."""
    NONE = "none"
    """No auxiliary classifier."""
    MODEL = "model"
    """The model's own head, at the end of the last part; not an option."""


PUBLISHED = {HeadKind.AUTO: HeadKind.DGL, HeadKind.CONV: HeadKind.DGL_CONV}
"""What kinds are called now that meant DGL's head in earlier versions."""


class Layout(StrEnum):
    """Where a hidden tensor keeps its channels."""

    CHANNELS_FIRST = "channels_first"
    """B×C, followed by any number of positions: NCHW, NCDHW."""
    CHANNELS_LAST = "channels_last"
    """B, any number of positions, C: NHWC, B×N×C."""
    VECTOR = "vector"
    """B×C."""

    def channels(self, dims: int) -> int:
        """The dimension of the channels of a tensor of so many dimensions, the batch included."""
        return max(1, dims - 1) if self is Layout.CHANNELS_LAST else 1
