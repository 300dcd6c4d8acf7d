"""Refuse operations that make the host wait for a GPU, wherever the tensors are."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

READS_A_VALUE = {
    "aten::_local_scalar_dense",  # item(), float(), bool()
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::argwhere",
    "aten::masked_select",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::_unique2",
    "aten::repeat_interleave.Tensor",
}


class NoWaiting(TorchDispatchMode):
    """Within this, an operation whose result or shape the host must read is an error.

    Boolean masks as an index are refused too: their number of elements is such a shape.  What only
    a GPU shows, such as copies from pageable memory, is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        self.n_operations += 1
        name = func.name()
        if name in READS_A_VALUE:
            raise AssertionError(f"{name} makes the host wait for the device")
        if name.startswith(("aten::index.", "aten::index_put", "aten::_index_put")):
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                raise AssertionError(f"{name} by a mask makes the host wait for the device")
        return func(*args, **(kwargs or {}))
