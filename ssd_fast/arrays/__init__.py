"""Arrays of torch, NumPy, CuPy and Numba: name their library, check them, and allocate like them."""

from .allocation import (
    BOX_BYTES,
    concatenate,
    contiguous,
    copy_fault,
    dimension,
    dtype_name,
    empty,
    from_list,
    strided,
    trim,
    workspace,
)
from .errors import allocation_error
from .libraries import Array, library_name, library_of, named_arrays, require_same_library, value_fault

__all__ = [
    "BOX_BYTES",
    "Array",
    "allocation_error",
    "concatenate",
    "contiguous",
    "copy_fault",
    "dimension",
    "dtype_name",
    "empty",
    "from_list",
    "library_name",
    "library_of",
    "named_arrays",
    "require_same_library",
    "strided",
    "trim",
    "value_fault",
    "workspace",
]
