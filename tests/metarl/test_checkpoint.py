import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.checkpoint import (
    Checkpoint,
    StorageError,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
    write_bytes_atomic,
    write_json,
)
from metarl.files import BrokenFileError

FILES = ("tensors.safetensors", "state.json", "manifest.json")


def example(iteration: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(iteration)
    weight = torch.randn(3, 4, generator=generator)
    tensors = {"z.weight": weight, "a.bias": torch.arange(5, dtype=torch.float64) * 0.1}
    return Checkpoint(iteration, tensors, {"env_steps": 100 * iteration, "best": None})


def never(message: str) -> None:
    raise AssertionError(message)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().reshape(-1).contiguous().view(torch.uint8)


def assert_same(left: Checkpoint | None, right: Checkpoint) -> None:
    assert left is not None
    assert (left.iteration, left.state) == (right.iteration, right.state)
    assert list(left.tensors) == list(right.tensors)
    for name, tensor in right.tensors.items():
        assert left.tensors[name].dtype == tensor.dtype
        assert left.tensors[name].shape == tensor.shape
        assert torch.equal(bits(left.tensors[name]), bits(tensor))


def rewrite(folder: Path, name: str, data: bytes) -> None:
    """Change a file and make the manifest vouch for it."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two")
    for iteration in (4, 7):
        save_checkpoint(root, example(iteration), keep=3)
    return root


def test_a_checkpoint_comes_back_bit_for_bit_and_in_order(tmp_path: Path) -> None:
    base = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    tensors = {
        "zero": torch.tensor([-0.0, 0.0, 1e-45]),
        "scalar": torch.tensor(0.1, dtype=torch.float64),
        "count": torch.tensor(2**62 + 1),
        "flags": torch.tensor([True, False]),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "tiny": torch.tensor([1.5]).to(torch.float8_e4m3fn),
        "empty": torch.zeros(0, 3),
        "transposed": base.T,
        "shared": base,
        "learned": torch.nn.Parameter(torch.ones(2)),
    }
    state: dict[str, object] = {"loss": 0.1, "nested": {"list": [1, None, "ü"]}, "big": 2**80}
    folder = save_checkpoint(tmp_path / "deep" / "down", Checkpoint(12, tensors, state), keep=1)
    assert folder == tmp_path / "deep" / "down" / "000012"
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert_same(load_checkpoint(folder), Checkpoint(12, tensors, state))
    load_checkpoint(folder).tensors["shared"].add_(1.0)


def test_only_the_newest_stay(tmp_path: Path) -> None:
    for iteration in (1, 5, 999_999, 1_000_000, 1_000_001):
        save_checkpoint(tmp_path, example(iteration), keep=3)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["1000000", "1000001", "999999"]
    assert_same(latest_checkpoint(tmp_path, never), example(1_000_001))


def test_what_was_just_saved_stays_beside_a_later_broken_one(tmp_path: Path) -> None:
    for iteration in (1, 9):
        save_checkpoint(tmp_path, example(iteration), keep=2)
    (tmp_path / "000009" / "manifest.json").unlink()
    save_checkpoint(tmp_path, example(2), keep=1)
    assert_same(latest_checkpoint(tmp_path, lambda _: None), example(2))


def test_a_second_save_of_an_iteration_replaces_the_first(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, example(3), keep=1)
    second = example(3)._replace(state={"second": True})
    save_checkpoint(tmp_path, second, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["000003"]
    assert_same(load_checkpoint(tmp_path / "000003"), second)


def test_what_a_dead_write_left_is_ignored_then_removed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, example(1), keep=3)
    for name in (".000002.part", ".000003.part"):
        shutil.copytree(tmp_path / "000001", tmp_path / name)
    assert_same(latest_checkpoint(tmp_path, never), example(1))
    (tmp_path / "notes.txt").write_text("mine")
    save_checkpoint(tmp_path, example(2), keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001", "000002", "notes.txt"]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_changed_or_cut_byte_is_refused_by_name(
    two: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("broken") / "checkpoints"
    shutil.copytree(two, root)
    file = root / "000007" / data.draw(st.sampled_from(FILES))
    raw = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        raw[place] ^= data.draw(st.integers(1, 255))
    else:
        del raw[place:]
    file.write_bytes(raw)
    messages: list[str] = []
    assert_same(latest_checkpoint(root, messages.append), example(4))
    assert len(messages) == 1
    assert any(f"000007/{name}: " in messages[0] for name in FILES)
    with pytest.raises(BrokenFileError, match="000007"):
        load_checkpoint(root / "000007")


def test_broken_files_are_told_apart(two: Path, tmp_path: Path) -> None:
    def message(folder: Path) -> str:
        with pytest.raises(BrokenFileError) as caught:
            load_checkpoint(folder)
        return str(caught.value)

    def fresh(name: str) -> Path:
        return Path(shutil.copytree(two / "000007", tmp_path / name))

    size = (two / "000007" / "tensors.safetensors").stat().st_size
    with (cut := fresh("cut") / "tensors.safetensors").open("r+b") as file:
        file.truncate(10)
    assert message(cut.parent) == f"{cut}: truncated: expected {size} bytes, got 10"
    (gone := fresh("gone") / "state.json").unlink()
    assert message(gone.parent) == f"{gone}: missing"
    (foreign := fresh("foreign") / "weights.pkl").write_bytes(b"")
    assert message(foreign.parent) == f"{foreign}: a foreign file in a checkpoint"
    mixed = fresh("mixed")
    shutil.copy(two / "000004" / "tensors.safetensors", mixed)
    assert "tensors.safetensors: SHA-256" in message(mixed)
    (new := fresh("new") / "manifest.json").write_text('{"schema": 2}')
    assert message(new.parent).startswith(f"{new}: schema version 2")
    (bomb := fresh("bomb") / "manifest.json").write_text("[" * 4000)
    assert message(bomb.parent).startswith(f"{bomb}: not JSON")
    (link := fresh("link") / "state.json").unlink()
    link.symlink_to(two / "000007" / "state.json")
    assert message(link.parent) == f"{link}: not a regular file"
    assert "holds iteration 7" in message(fresh("000008"))
    (pickled := tmp_path / "model.pt").write_bytes(b"")
    assert message(pickled).startswith(f"{pickled}: not a folder of")
    assert "No such file" in message(tmp_path / "absent")


def test_a_manifest_does_not_make_content_good(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, example(1), keep=1)
    good = (folder / "tensors.safetensors").read_bytes()
    bad = {name: tensor.clone() for name, tensor in example(1).tensors.items()}
    bad["a.bias"][2] = float("nan")
    for data, text in (
        (safetensors.torch.save(bad), "'a.bias' is not finite"),
        (safetensors.torch.save({"other": torch.ones(1)}), "does not hold the tensors"),
        (b"\xff" * 100, "not in the safetensors format"),
    ):
        rewrite(folder, "tensors.safetensors", data)
        with pytest.raises(BrokenFileError, match=text):
            load_checkpoint(folder)
    rewrite(folder, "tensors.safetensors", good)
    assert_same(load_checkpoint(folder), example(1))
    for text in ("NaN", "1e999", "[]", "{", "{}", "[" * 100_000):
        rewrite(folder, "state.json", text.encode())
        with pytest.raises(BrokenFileError, match=r"state\.json: "):
            load_checkpoint(folder)


def test_none_there_is_none_and_none_good_is_an_error(two: Path, tmp_path: Path) -> None:
    assert [latest_checkpoint(root, never) for root in (tmp_path, tmp_path / "no")] == [None, None]
    root = Path(shutil.copytree(two, tmp_path / "root"))
    for folder in root.iterdir():
        (folder / "state.json").unlink()
    messages: list[str] = []
    with pytest.raises(BrokenFileError, match="none of the 2 checkpoints is good"):
        latest_checkpoint(root, messages.append)
    assert "000007" in messages[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_saved(tmp_path: Path, value: float) -> None:
    with pytest.raises(BrokenFileError, match="'w' is not finite"):
        save_checkpoint(tmp_path, Checkpoint(1, {"w": torch.tensor([1.0, value])}, {}), keep=1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_checkpoint(tmp_path, Checkpoint(1, {}, {"loss": value}), keep=1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("state", [{"pair": (1, 2)}, {"table": {1: 2}}, {"path": Path()}])
def test_state_that_json_would_change_is_refused(tmp_path: Path, state: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, Checkpoint(1, {}, state), keep=1)


def test_bad_numbers_are_refused(tmp_path: Path) -> None:
    for iteration, keep in ((1, 0), (-1, 3)):
        with pytest.raises(ValueError, match="keep must be >= 1"):
            save_checkpoint(tmp_path, Checkpoint(iteration, {}, {}), keep)


def test_a_root_below_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match=r"cannot write .*[0-9]+ bytes needed, [0-9]+ bytes"):
            save_checkpoint(root, example(1), keep=1)
    with pytest.raises(StorageError, match="cannot write"):
        write_bytes_atomic(tmp_path / "file" / "x", b"x")
    assert (tmp_path / "file").read_text() == "x"


def test_a_full_disk_leaves_the_previous_one(tmp_path: Path) -> None:
    # The limit on the size of a file stands in for a full disk: the write fails half-way.
    program = f"""
import resource, signal, sys, torch
from pathlib import Path
from metarl.checkpoint import Checkpoint, StorageError, save_checkpoint, write_bytes_atomic
root = Path({str(tmp_path)!r})
save_checkpoint(root, Checkpoint(1, {{"w": torch.ones(10)}}, {{}}), keep=1)
write_bytes_atomic(root / "text", b"old")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for iteration in (1, 2):
    try:
        save_checkpoint(root, Checkpoint(iteration, {{"w": torch.ones(10_000)}}, {{}}), keep=1)
    except StorageError as error:
        sys.stdout.write(f"{{error}}\\n")
try:
    write_bytes_atomic(root / "text", b"new" * 10_000)
except StorageError as error:
    sys.stdout.write(f"{{error}}\\n")
"""
    command = (sys.executable, "-c", program)
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 3
    assert all("File too large" in line and "bytes needed" in line for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001", "text"]
    assert (tmp_path / "text").read_bytes() == b"old"
    found = latest_checkpoint(tmp_path, never)
    assert found is not None
    assert torch.equal(found.tensors["w"], torch.ones(10))


def test_a_kill_at_any_instant_leaves_a_good_checkpoint(tmp_path: Path) -> None:
    # It saves the same two iterations again and again, so that replacing is hit as well.
    program = f"""
import itertools, sys, torch
from pathlib import Path
from metarl.checkpoint import Checkpoint, save_checkpoint
for n in itertools.count():
    w = torch.full((20_000,), float(n))
    save_checkpoint(Path({str(tmp_path)!r}), Checkpoint(n // 4 % 2, {{"w": w}}, {{"n": n}}), keep=1)
    sys.stdout.write("x"); sys.stdout.flush()
"""
    for delay in (0.0, 0.003, 0.011, 0.02):
        command = (sys.executable, "-c", program)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.read(3)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        found = latest_checkpoint(tmp_path, never)
        assert found is not None
        assert found.state["n"] == found.tensors["w"][0].item()
