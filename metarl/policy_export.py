"""An adapted policy for programs that know nothing of the suite: a module, TorchScript, ONNX.

All of them turn obs [n, O] float32 into the likeliest actions [n, A] within the policy's range, or
choices [n] int64, for any n.
"""

import importlib.util
import io
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from metarl.checkpoint import write_bytes_atomic
from metarl.checks import InputError
from metarl.kept_policy import KeptPolicy
from metarl.types import ActionRange

_FOR_ONNX = ("onnx", "onnxscript")


class PolicyModule(nn.Module):
    """A policy's likeliest action as a module. Owns a copy of its weights."""

    def __init__(self, kept: KeptPolicy) -> None:
        super().__init__()
        self._bare = kept._replace(params={}, action_range=None)
        # Names of submodules and weights have no dots.
        self._names = {name: name.replace(".", "_") for name in kept.params}
        self.weights = nn.ParameterDict(
            {
                self._names[name]: nn.Parameter(leaf.clone(), requires_grad=False)
                for name, leaf in kept.params.items()
            }
        )
        bounds = (None, None) if kept.action_range is None else kept.action_range
        self.register_buffer("low", bounds[0])
        self.register_buffer("high", bounds[1])
        self.low: Tensor | None
        self.high: Tensor | None

    def forward(self, obs: Tensor) -> Tensor:
        """Return actions [n, A], or choices [n], at obs [n, O]."""
        params = {name: self.weights[own] for name, own in self._names.items()}
        within = None
        if self.low is not None and self.high is not None:
            within = ActionRange(self.low, self.high)
        return self._bare._replace(params=params, action_range=within).decide(obs)


def _to_torchscript(module: PolicyModule, example: Tensor) -> bytes:
    buffer = io.BytesIO()
    traced = torch.jit.trace(module, (example,))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, buffer)
    return buffer.getvalue()


def _to_onnx(module: PolicyModule, example: Tensor) -> bytes:
    program = torch.onnx.export(
        module,
        (example,),
        input_names=["obs"],
        output_names=["action"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


_WRITERS: Mapping[str, tuple[str, Callable[[PolicyModule, Tensor], bytes]]] = {
    ".pt": ("TorchScript", _to_torchscript),
    ".onnx": ("ONNX", _to_onnx),
}


def check_export(path: Path) -> None:
    """Raise InputError where ``export`` could not write a file of this name, or not here."""
    if path.suffix not in _WRITERS:
        known = " or ".join(f"{suffix} ({name})" for suffix, (name, _) in _WRITERS.items())
        raise InputError([f"export: the name must end in {known}; got {str(path)!r}"])
    missing = [name for name in _FOR_ONNX if importlib.util.find_spec(name) is None]
    if path.suffix == ".onnx" and missing:
        need = f"export to ONNX needs the package{'s' * (len(missing) > 1)} {' and '.join(missing)}"
        raise InputError([f"{need}: pip install 'metarl-suite[onnx]'"])


def export(kept: KeptPolicy, path: Path) -> None:
    """Write a policy as TorchScript (``.pt``) or ONNX (``.onnx``), as the name ends.

    Raises:
        InputError: another ending, or a package that writes ONNX is not installed.
        StorageError: the file cannot be written.
    """
    check_export(path)
    example = torch.zeros(2, kept.spec.observation_size)
    with warnings.catch_warnings():
        # torch would have everyone use its own torch.export; robots' run times read these.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        data = _WRITERS[path.suffix][1](PolicyModule(kept).eval(), example)
    write_bytes_atomic(path, data)
