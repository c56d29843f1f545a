"""The border between host arrays, where MuJoCo lives, and tensors on the policy's device.

On a GPU both ways go through pinned memory: the copy to it does not hold up the host; the copy from
it waits for what the device was given before.

What is reshaped for a step, numpy reshapes: right after the physics, which fills the processor's
caches, each kind of torch operation takes 10 us or more.
"""

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ScalarT = TypeVar("_ScalarT", bound=np.generic)


def to_device(rows: NDArray[_ScalarT], device: str) -> Tensor:
    """Turn an array into a tensor on a device; on the CPU they share memory."""
    tensor = torch.from_numpy(rows)
    if torch.device(device).type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensor: Tensor) -> NDArray[np.generic]:
    """Turn a tensor into an array; on the CPU they share memory."""
    if not tensor.is_cuda:
        return tensor.detach().numpy()
    landing = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    landing.copy_(tensor.detach(), non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return landing.numpy()
