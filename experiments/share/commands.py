"""``metarl export``, ``metarl push`` and ``metarl pull``."""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from metarl.checks import COUNT, InputError, check_fields
from metarl.experiments.arguments import parse, plain_console
from metarl.experiments.share.export import Choices, export_run
from metarl.experiments.share.folder import is_export
from metarl.experiments.share.hub import Repository, pull_export, push_export
from metarl.files import read_regular

_LONGEST_TOKEN = 1000
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


@dataclass(frozen=True, kw_only=True)
class ExportArgs:
    """Write a finished run as a folder to share: weights, settings, results and a model card.

    The folder can be used like the run itself.
    """

    run_dir: tyro.conf.Positional[Path]
    """Folder of the run."""
    out: Path
    """Folder to write; only an untouched export of the same run is replaced."""
    best: bool = False
    """Take the weights that were best in validation instead of the last ones."""
    license: str | None = None
    """Identifier of a licence for the card, such as mit or cc-by-4.0."""


@dataclass(frozen=True, kw_only=True)
class PushArgs:
    """Put a run, or an export of one, on the Hugging Face hub."""

    folder: tyro.conf.Positional[Path]
    """Folder of a run, which is exported first, or of an export."""
    repo_id: tyro.conf.Positional[str]
    """Repository on the hub: user/name. It is made where there is none."""
    private: bool = False
    """Make a new repository private."""
    token_file: Path | None = None
    """File that holds the token; otherwise HF_TOKEN, or the hub's own login."""
    best: bool = False
    """Of a run, take the weights that were best in validation instead of the last ones."""
    license: str | None = None
    """Of a run, identifier of a licence for the card."""


@dataclass(frozen=True, kw_only=True)
class PullArgs:
    """Fetch an export from the Hugging Face hub."""

    repo_id: tyro.conf.Positional[str]
    """Repository on the hub: user/name."""
    out: Path
    """Folder to write; only an untouched export of the same run is replaced."""
    revision: str | None = None
    """Branch, tag or commit; by default the newest state."""
    token_file: Path | None = None
    """File that holds the token; otherwise HF_TOKEN, or the hub's own login."""
    max_megabytes: int = 500
    """Refuse more than this before anything is fetched."""

    def __post_init__(self) -> None:
        check_fields(self, {"max_megabytes": COUNT})


def export_command(arguments: Sequence[str]) -> int:
    """Run ``metarl export RUN_DIR --out DIR [flags]``."""
    args = parse(ExportArgs, arguments, "export")
    choices = Choices(args.best, args.license)
    export_run(args.run_dir, args.out, choices, plain_console(stderr=True))
    plain_console().print(f"wrote {args.out}")
    return 0


def push_command(arguments: Sequence[str]) -> int:
    """Run ``metarl push FOLDER REPO_ID [flags]``."""
    args = parse(PushArgs, arguments, "push")
    repository = Repository(args.repo_id, _token(args.token_file))
    if is_export(args.folder):
        if args.best or args.license is not None:
            raise InputError([f"{args.folder} is an export: --best and --license are for runs"])
        address = push_export(args.folder, repository, args.private)
    else:
        with tempfile.TemporaryDirectory() as place:
            export = Path(place, "export")
            choices = Choices(args.best, args.license)
            export_run(args.folder, export, choices, plain_console(stderr=True))
            address = push_export(export, repository, args.private)
    plain_console().print(f"pushed to {address}")
    return 0


def pull_command(arguments: Sequence[str]) -> int:
    """Run ``metarl pull REPO_ID --out DIR [flags]``."""
    args = parse(PullArgs, arguments, "pull")
    repository = Repository(args.repo_id, _token(args.token_file))
    pull_export(repository, args.revision, args.out, args.max_megabytes * 1_000_000)
    plain_console().print(f"wrote {args.out}")
    return 0


def _token(file: Path | None) -> str | None:
    if file is None:
        return None
    token = read_regular(file, 1, _LONGEST_TOKEN).decode(errors="replace").strip()
    if not _TOKEN.fullmatch(token):
        raise InputError([f"--token-file: {file} does not hold a token and nothing else"])
    return token
