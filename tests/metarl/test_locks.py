"""Locks between processes: one holder, named; a killed one lets go; who only looks does no harm."""

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from metarl.locks import RunLockedError, acquire_lock, is_locked

HOLDER = """
import sys
from pathlib import Path
from metarl.locks import RunLockedError, acquire_lock
try:
    acquire_lock(Path(sys.argv[1]))
except RunLockedError as error:
    sys.exit(str(error))
sys.stdout.write("held\\n")
sys.stdout.flush()
sys.stdin.read()
"""


def start_holder(file: Path) -> subprocess.Popen[str]:
    pipe, command = subprocess.PIPE, (sys.executable, "-c", HOLDER, str(file))
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_one_holder_at_a_time_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    assert not is_locked(file)
    first = start_holder(file)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        assert is_locked(file)
        named = f"{tmp_path} is in use by process {first.pid} on host {socket.gethostname()}"
        with start_holder(file) as second:
            _, complaint = second.communicate()
        assert second.returncode == 1
        assert named in complaint
        with pytest.raises(RunLockedError, match=named):
            acquire_lock(file)
    finally:
        first.kill()
        first.communicate()
    assert json.loads(file.read_text())["pid"] == first.pid
    assert not is_locked(file)
    os.close(acquire_lock(file))
    assert json.loads(file.read_text())["pid"] == os.getpid()


def test_only_one_takes_over_a_stale_lock(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    stale = {"pid": 2**22 + 1, "host": socket.gethostname(), "since": "long ago"}
    file.write_text(json.dumps(stale))
    both = [start_holder(file) for _ in range(2)]
    try:
        # The loser ends by itself; the winner waits for its standard input to end.
        lines = []
        for process in both:
            assert process.stdout is not None
            lines.append(process.stdout.readline())
        assert sorted(lines) == ["", "held\n"]
    finally:
        codes = sorted(process.communicate() and process.returncode for process in both)
    assert codes == [0, 1]


def test_who_only_looks_keeps_nobody_out(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    file.touch()
    # What `is_locked` holds for an instant, held a little longer.
    looking = os.open(file, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    timer = threading.Timer(0.03, os.close, [looking])
    timer.start()
    os.close(acquire_lock(file))
    timer.join()
