"""Replaying kernels on a GPU: many small operations for the price of a few launches."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

_Shapes: TypeAlias = tuple[tuple[str, torch.Size, torch.dtype, torch.device], ...]
_MAX_RECORDINGS = 8


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class Replayed:
    """A function of named tensors that is recorded on the GPU once for each set of shapes.

    Owns the recordings and the memory that they read and write. The function must launch the same
    kernels for the same shapes and read nothing back to the host. Tensors that are not on a GPU go
    straight through it.

    Args:
        function: what is recorded.
        warm_ups: calls before it is recorded.
    """

    def __init__(
        self, function: Callable[[Mapping[str, Tensor]], dict[str, Tensor]], warm_ups: int = 3
    ) -> None:
        self._function, self._warm_ups = function, warm_ups
        self._recordings: dict[_Shapes, _Recording] = {}

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the function's results, as tensors that no later call writes into."""
        if not all(leaf.is_cuda for leaf in inputs.values()):
            return self._function(inputs)
        # Streams and graphs are made on the device that is current.
        with torch.cuda.device(next(iter(inputs.values())).device):
            return self._replay(inputs)

    def _replay(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        shapes = tuple((name, leaf.shape, leaf.dtype, leaf.device) for name, leaf in inputs.items())
        if shapes not in self._recordings:
            if len(self._recordings) == _MAX_RECORDINGS:
                # All of them: what cuBLAS works in may lie in the memory of the first one.
                self._recordings.clear()
            self._recordings[shapes] = self._record(inputs)
        graph, places, results = self._recordings[shapes]
        for name, leaf in inputs.items():
            places[name].copy_(leaf)
        graph.replay()
        return {name: leaf.clone() for name, leaf in results.items()}

    def _record(self, inputs: Mapping[str, Tensor]) -> _Recording:
        places = {name: leaf.clone() for name, leaf in inputs.items()}
        # Libraries set themselves up in their first calls, which a recording must not contain.
        side = _side_stream(torch.cuda.current_device())
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(self._warm_ups):
                self._function(places)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = self._function(places)
        return _Recording(graph, places, results)


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """Return a device's stream for warm-ups, the same ever after: each keeps memory of cuBLAS."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def replayed_product(product: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a product with a matrix that is recorded on the GPU in its first call.

    For a few products with the same matrix, of which what it is made of stays in its place. Most
    of what a recording asks to be set up has been used when that was made: one warm-up will do.
    """
    replayed = Replayed(lambda inputs: {"image": product(inputs["vector"])}, warm_ups=1)
    return lambda vector: replayed({"vector": vector})["image"]
