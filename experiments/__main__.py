"""The `metarl` command. Torch takes a second to import, and Ctrl-C must be quiet even then."""

import sys


def main() -> int:
    """Run the command line; return the exit status."""
    try:
        from metarl.experiments.cli import main as run  # noqa: PLC0415
    except KeyboardInterrupt:
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
