"""Exports on the Hugging Face hub, or on a server that speaks as it does (``HF_ENDPOINT``).

What is there is material from strangers: names and sizes are looked at before anything is fetched,
and what was fetched is held against its manifest before it is put in place.
"""

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from metarl.checks import InputError
from metarl.experiments.share.folder import MANIFEST, check_export, refuse_foreign, replacing
from metarl.files import BrokenFileError
from metarl.runs import RunConflictError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_HUB_OWN = {".gitattributes"}
"""What the hub itself puts into a repository."""
_MOST_FILES = 1000
_REFUSED = (400, 401, 403, 404)
_LONGEST_REASON = 300


class HubError(OSError):
    """The hub could not be reached, or failed; nothing was put in place."""


class Repository(NamedTuple):
    """A repository of models, and the key to it."""

    repo_id: str
    """``user/name``."""
    token: str | None
    """None for the one that the hub's own login has left, or none at all."""


def push_export(folder: Path, repository: Repository, private: bool) -> str:
    """Make a repository hold an export and nothing else, as one commit; return its address.

    The repository is made where there is none. What an earlier push left is replaced; its history
    stays.

    Raises:
        InputError: the repository holds something else, is public though it is to be private, or is
            not open to the token.
        BrokenFileError: the export is not as it was written.
        HubError: the hub could not be reached, or failed, or took another commit meanwhile.
    """
    check_export(folder)
    api = _api(repository)
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete  # noqa: PLC0415

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    ours = {path.relative_to(folder).as_posix(): path for path in files}
    repo_id = repository.repo_id
    with _asking(repository):
        address = str(api.create_repo(repo_id, private=private or None, exist_ok=True))
        info = api.model_info(repo_id)
    if private and not info.private:
        raise InputError([f"{repo_id} is there already, and public; --private makes only new ones"])
    there = _sizes(api, repository, info.sha)
    refuse_foreign(repo_id, there)
    changes = [CommitOperationAdd(name, path) for name, path in ours.items()]
    stale = [CommitOperationDelete(name) for name in there if name not in ours]
    with _asking(repository):
        # What was looked at is what is replaced: a push at the same time fails instead.
        api.create_commit(
            repo_id, [*changes, *stale], commit_message="metarl export", parent_commit=info.sha
        )
    return address


def pull_export(repository: Repository, revision: str | None, out: Path, most_bytes: int) -> None:
    """Fetch an export into a folder, which appears only when everything in it is as it should be.

    Args:
        repository: where it is.
        revision: a branch, tag or commit; None for the newest.
        out: free, or an untouched export of the same run.
        most_bytes: that all files may have together.

    Raises:
        InputError: the repository holds what no export holds, is too large, is not there, or not
            open to the token; or ``out`` is taken.
        BrokenFileError: a file is not what the manifest says.
        HubError: the hub could not be reached, or failed.
    """
    api, repo_id = _api(repository), repository.repo_id
    with _asking(repository):
        commit = api.model_info(repo_id, revision=revision).sha
    if commit is None:
        raise HubError(f"{repo_id}: the hub names no commit")
    sizes = _sizes(api, repository, commit)
    refuse_foreign(repo_id, sizes)
    if MANIFEST not in sizes:
        raise InputError([f"{repo_id} is no export: it holds no {MANIFEST}"])
    if (total := sum(sizes.values())) > most_bytes:
        raise InputError([f"{repo_id} has {total} bytes, allowed are {most_bytes}"])
    with replacing(out) as new:
        for name in sorted(sizes):
            with _asking(repository):
                api.hf_hub_download(repo_id, name, revision=commit, local_dir=new)
        shutil.rmtree(new / ".cache", ignore_errors=True)  # the library's own notes
        try:
            check_export(new)
        except (BrokenFileError, RunConflictError) as error:
            raise BrokenFileError(str(error).replace(str(new), repo_id)) from None


def _api(repository: Repository) -> "HfApi":
    try:
        from huggingface_hub import HfApi  # noqa: PLC0415 (an extra, and slow to import)
    except ImportError:
        need = "sharing on the hub needs huggingface_hub: pip install 'metarl-suite[hub]'"
        raise InputError([need]) from None
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=repository.token)


def _sizes(api: "HfApi", repository: Repository, commit: str | None) -> Mapping[str, int]:
    """Return the bytes of each file of a commit by its path, but for the hub's own."""
    from huggingface_hub.hf_api import RepoFile  # noqa: PLC0415

    with _asking(repository):
        tree = api.list_repo_tree(repository.repo_id, recursive=True, revision=commit)
        entries = list(itertools.islice(tree, _MOST_FILES + 1))
    if len(entries) > _MOST_FILES:
        raise InputError([f"{repository.repo_id} holds more than {_MOST_FILES} files and folders"])
    files = [entry for entry in entries if isinstance(entry, RepoFile)]
    return {entry.path: entry.size for entry in files if entry.path not in _HUB_OWN}


@contextlib.contextmanager
def _asking(repository: Repository) -> Iterator[None]:
    """Turn what the hub's library raises into one line that does not show the token."""
    from huggingface_hub import get_token  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415

    try:
        yield
    except HFValidationError as error:
        raise InputError([" ".join(str(error).split())]) from None
    # Its HTTP client has errors of its own, another one in each major version.
    except Exception as error:
        line = f"{repository.repo_id}: {type(error).__name__}: {' '.join(str(error).split())}"
        for secret in filter(None, (repository.token, get_token())):
            line = line.replace(secret, "<token>")
        line = line[:_LONGEST_REASON]
        if isinstance(error, HfHubHTTPError) and error.response.status_code in _REFUSED:
            help_text = "is the name right, and the token (--token-file, HF_TOKEN) allowed to?"
            raise InputError([f"{line}; {help_text}"]) from None
        raise HubError(line) from None
