"""A run of a sweep in a process of its own, which does not outlive the driver of the sweep.

The driver keeps the other end of this process's standard input. However the driver ends, the kernel
closes that end; the run then stops as on SIGTERM: it saves and leaves.
"""

import os
import signal
import sys
import threading
import time

_GRACE_S = 60.0
"""How long a run may take to save before it is ended as it is, which its files survive."""


def _leave_with_driver() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(128 + signal.SIGKILL)


def main() -> int:
    """Run the command line; return the exit status."""
    threading.Thread(target=_leave_with_driver, daemon=True).start()
    # After the watch has begun: the import takes seconds, in which the driver may be gone.
    from metarl.experiments.__main__ import main as run  # noqa: PLC0415

    return run()


if __name__ == "__main__":
    sys.exit(main())
