"""Lock files that a killed process leaves no trace of: the kernel holds the lock (``flock``)."""

import fcntl
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

_TRIES, _PAUSE_S = 10, 0.01


class RunLockedError(RuntimeError):
    """Another process holds the folder."""


def acquire_lock(file: Path) -> int:
    """Return the descriptor of a lock file, locked until it is closed or this process is gone.

    Raises:
        RunLockedError: another process holds it; the message says which.
        OSError: the file cannot be written.
    """
    lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _locked_soon(lock):
            raise RunLockedError(f"{file.parent} is in use by {_describe(_holder(lock))}")
        # Whatever the text says, its writer is gone: a killed run goes on, also on another host.
        now, host = f"{datetime.now(UTC):%FT%TZ}", socket.gethostname()
        holder = {"pid": os.getpid(), "host": host, "since": now}
        text = json.dumps(holder).encode()
        os.pwrite(lock, text, 0)
        os.ftruncate(lock, len(text))
    except BaseException:
        os.close(lock)
        raise
    return lock


def _locked_soon(lock: int) -> bool:
    """Lock a descriptor, unless another process holds it for longer than an instant."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_S)  # It may be held by one who only looks: is_locked.
        else:
            return True
    return False


def is_locked(file: Path) -> bool:
    """Whether a process holds a lock file, which need not exist."""
    try:
        lock = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _holder(lock: int) -> dict[str, object]:
    try:
        return dict(json.loads(os.pread(lock, 4096, 0)))
    except (ValueError, TypeError):
        return {}


def _describe(holder: dict[str, object]) -> str:
    known = {"pid": "?", "host": "?", "since": "?"} | holder
    return "process {pid} on host {host} (since {since})".format_map(known)
