"""The `metarl` command. Torch takes a second to import, and Ctrl-C must be quiet even then."""

import gc
import sys


def main() -> int:
    """Run the command line; return the exit status."""
    # The collector would walk through all that torch creates again and again, and find nothing.
    gc.disable()
    try:
        from metarl.experiments.cli import main as run  # noqa: PLC0415
    except KeyboardInterrupt:
        return 130
    gc.freeze()
    gc.enable()
    return run()


if __name__ == "__main__":
    sys.exit(main())
