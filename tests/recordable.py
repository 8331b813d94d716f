"""Watches what a function does, as a CUDA graph would record it, on any device."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITING = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)  # for numbers of the device


class Recordable(TorchDispatchMode):
    """Refuses operations that wait for a device, and notes all others.

    `operations`: their names and shapes; `read`: the addresses of the memory that none of them has made.
    """

    def __init__(self):
        super().__init__()
        self.operations, self.read = [], set()
        self._made = []  # kept, so that no other tensor gets their memory

    def __torch_dispatch__(self, operation, types, given=(), names=None):
        assert operation not in WAITING, f"{operation} waits for the device"
        made = _addresses(self._made)
        self.read |= _addresses((given, names)) - made
        result = operation(*given, **(names or {}))
        self._made += [each for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
        shapes = [tuple(each.shape) for each in tree_leaves((given, result)) if isinstance(each, torch.Tensor)]
        self.operations.append((str(operation), shapes))
        return result


def _addresses(tensors):
    """Return the addresses of tensors. A number among the operands, as a tensor without dimensions, is none."""
    found = (each for each in tree_leaves(tensors) if isinstance(each, torch.Tensor) and each.dim())
    return {each.untyped_storage().data_ptr() for each in found}
