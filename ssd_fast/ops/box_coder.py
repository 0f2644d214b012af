"""encode_boxes, decode_boxes: convert boxes to and from offsets relative to the default boxes."""

from __future__ import annotations

from ..arrays import Array
from ..specs import BoxCoderSpec
from ._arguments import call, check_spec
from ._box_coder_ops import decode_op, encode_op


def encode_boxes(boxes: Array, default_boxes: Array, coder: BoxCoderSpec) -> Array:
    """Encode boxes as the offsets that decode_boxes turns back into them.

    Args:
        boxes: [..., P, 4] float32 xyxy; row p belongs to default box p.
        default_boxes: [P, 4] float32 xyxy, in the same unit.
        coder: variances and order of the offsets; its clamp is only for decoding.

    Returns:
        float32 [..., P, 4]. A box without width or height gives -inf or NaN.

    Ties:
        None.

    Grad:
        With respect to boxes.

    Syncs:
        Never.

    Raises:
        ValueError: wrong shape or device, or default_boxes that require a gradient.
        TypeError: wrong dtype (convert with .float()), or not an array.
        RuntimeError: forward-mode differentiation.

    Source:
        Liu et al. 2016, equation 2.

    Specification:
        ssd_fast.reference.encode_boxes

    Examples:
        >>> import ssd_fast, torch
        >>> default = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        >>> moved = torch.tensor([[1.0, 0.0, 11.0, 10.0]])
        >>> ssd_fast.encode_boxes(moved, default, ssd_fast.BoxCoderSpec())
        tensor([[1., 0., 0., 0.]])
    """
    check_spec("encode_boxes", "coder", coder, BoxCoderSpec)
    named = {"boxes": boxes, "default_boxes": default_boxes}
    return call(encode_op, named, specs=(coder,))


def decode_boxes(deltas: Array, default_boxes: Array, coder: BoxCoderSpec) -> Array:
    """Decode a network's offsets into boxes.

    Args:
        deltas: [..., P, 4] float32, float16 or bfloat16, in the coder's order; row p belongs to default box p.
        default_boxes: [P, 4] float32 xyxy.
        coder: variances, order and clamp.

    Returns:
        float32 [..., P, 4] xyxy in the unit of default_boxes, whatever the dtype of deltas.

    Ties:
        None.

    Grad:
        With respect to deltas (0 where the clamp limits them).

    Syncs:
        Never.

    Raises:
        ValueError: wrong shape or device, or default_boxes that require a gradient.
        TypeError: wrong dtype (convert with .float()), or not an array.
        RuntimeError: forward-mode differentiation.

    Source:
        Liu et al. 2016, equation 2.

    Specification:
        ssd_fast.reference.decode_boxes

    Examples:
        >>> import ssd_fast, torch
        >>> default = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        >>> ssd_fast.decode_boxes(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), default, ssd_fast.BoxCoderSpec())
        tensor([[ 1.,  0., 11., 10.]])
    """
    check_spec("decode_boxes", "coder", coder, BoxCoderSpec)
    named = {"deltas": deltas, "default_boxes": default_boxes}
    return call(decode_op, named, specs=(coder,))
