"""Watching how exactly torch computes."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Setting(NamedTuple):
    """What torch may do to the digits of float32."""

    matmul: str
    matmul_tf32: bool
    cudnn_tf32: bool


class Precision(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the settings at every operation, and the types of the numbers that came."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.settings, self.dtypes = set[Setting](), set[torch.dtype]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        matmul = torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32
        self.settings.add(Setting(*matmul, torch.backends.cudnn.allow_tf32))
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.dtypes.add(result.dtype)
        return result
