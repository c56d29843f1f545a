"""An adapted policy for programs that know nothing of the suite: a module, TorchScript, ONNX.

All of them turn obs [n, O] float32 into the likeliest actions [n, A] within the policy's range, or
choices [n] int64, for any n. With a memory they take four inputs and give three results,

    obs [n, O + 1], episode_start [n] bool, memory [n, H], last_action [n, A]
        -> action, memory, last_action,

the last two of which go into the next call; the last entry of obs is the reward of the last step.
What the first call is to be given is among the weights: ``start_memory`` [H], ``start_action`` [A],
``start_reward`` and ``start_ended`` (for episode_start), each the same in all n copies. An ONNX
file, which tells no weights by name, has them as JSON in its metadata, under ``start``.
"""

import importlib.util
import io
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from metarl.acting import START, Moment
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

    def forward(self, obs: Tensor, *carried: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return actions [n, A], or choices [n], at obs; with a memory, all three results.

        Without the three inputs behind obs, decide as at first, whatever reward obs tells.
        """
        params = {name: self.weights[own] for name, own in self._names.items()}
        within = None
        if self.low is not None and self.high is not None:
            within = ActionRange(self.low, self.high)
        kept = self._bare._replace(params=params, action_range=within)
        moment = Moment(obs, carried[0], carried[1:]) if carried else kept.first(obs)
        action, left = kept.decide(moment)
        return (action, *left) if left else action


def _example(kept: KeptPolicy) -> dict[str, Tensor]:
    """Return inputs of the module for two copies, by name."""
    sizes = kept.policy.carried_sizes
    obs = torch.zeros(2, kept.policy.shown_size)
    starts = {"episode_start": torch.zeros(2, dtype=torch.bool)} if sizes else {}
    return {"obs": obs, **starts, **{name: torch.zeros(2, size) for name, size in sizes.items()}}


def _to_torchscript(kept: KeptPolicy) -> bytes:
    buffer, module = io.BytesIO(), PolicyModule(kept).eval()
    traced = torch.jit.trace(module, tuple(_example(kept).values()))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, buffer)
    return buffer.getvalue()


def _to_onnx(kept: KeptPolicy) -> bytes:
    example, rows = _example(kept), {0: torch.export.Dim("n")}
    # As ``forward`` has them: obs, and the others as one argument, if there are any.
    carried = ((rows,) * (len(example) - 1),) if len(example) > 1 else ()
    program = torch.onnx.export(
        PolicyModule(kept).eval(),
        tuple(example.values()),
        input_names=list(example),
        output_names=["action", *(f"next_{name}" for name in kept.policy.carried_sizes)],
        dynamic_shapes=(rows, *carried),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    start = {
        name.removeprefix(START): leaf.tolist()
        for name, leaf in kept.params.items()
        if name.startswith(START)
    }
    if start:
        model.metadata_props.add(key="start", value=json.dumps(start))
    return bytes(model.SerializeToString())


_WRITERS: Mapping[str, tuple[str, Callable[[KeptPolicy], bytes]]] = {
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
    with warnings.catch_warnings():
        # torch would have everyone use its own torch.export; robots' run times read these.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        # It has one name for the number of copies in all inputs, as is meant.
        warnings.filterwarnings("ignore", "# The axis name: n will not be used", UserWarning)
        data = _WRITERS[path.suffix][1](kept)
    write_bytes_atomic(path, data)
