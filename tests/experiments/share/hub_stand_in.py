"""A stand-in for the Hugging Face hub: what its client asks of it, over HTTP on this machine.

Repositories are kept in memory as a list of commits, each a dict of files.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

TOKEN = "hf_stand-in-Secret"


class Repo:
    """One repository."""

    def __init__(self, private: bool, files: dict[str, bytes] | None = None) -> None:
        self.private = private
        self.commits = [{".gitattributes": b"*.safetensors filter=lfs\n"} | (files or {})]
        self.claimed: dict[str, int] = {}
        """Sizes that the listing tells instead of the real ones."""
        self.meanwhile: dict[str, bytes] = {}
        """What someone else commits while a push is on its way."""

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1]

    def at(self, revision: str) -> dict[str, bytes] | None:
        named = {sha_of(files): files for files in self.commits} | {"main": self.files}
        return named.get(revision)


class Asked(NamedTuple):
    """One request, as it came."""

    method: str
    path: str
    authorization: str


class HubStandIn:
    """Owns the server, its thread and its repositories."""

    def __init__(self, lfs: bool = False) -> None:
        self.lfs = lfs
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[Asked] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fetched(self) -> list[str]:
        return [asked.path for asked in self.asked if "/resolve/" in asked.path]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def sha_of(files: dict[str, bytes]) -> str:
    """Name a commit by its content: 40 hex digits, as git does."""
    digests = {name: hashlib.sha1(data).hexdigest() for name, data in files.items()}
    return hashlib.sha1(json.dumps(digests, sort_keys=True).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers each request to a hub by the tables below."""

    protocol_version = "HTTP/1.1"

    def __init__(self, hub: HubStandIn, *request: Any) -> None:
        self.hub = hub  # first: the request is answered before the next line returns
        super().__init__(*request)

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer(READS)

    def do_HEAD(self) -> None:
        self.answer(READS)

    def do_POST(self) -> None:
        self.answer(WRITES)

    def do_PUT(self) -> None:
        self.answer(WRITES)

    def answer(self, table: "Table") -> None:
        path, key = unquote(urlsplit(self.path).path), self.headers.get("Authorization", "")
        self.hub.asked.append(Asked(self.command, path, key))
        body = self.body()
        for pattern, act in table.items():
            if match := re.fullmatch(pattern, path):
                return self.reply(*act(self.hub, key == f"Bearer {TOKEN}", match, body), key)
        return self.reply(404, {"error": f"the stand-in has no {self.command} {path}"}, key)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def reply(self, status: int, content: Any, key: str) -> None:
        headers: dict[str, str] = {}
        if isinstance(content, File):
            headers = {"ETag": f'"{hashlib.sha1(content.data).hexdigest()}"'}
            headers["X-Repo-Commit"], content = content.commit, content.data
        if status == 401:  # a rude server: it repeats what it was told
            headers["X-Error-Message"] = f"no rights with {key}"
        if status == 404:
            headers["X-Error-Code"] = "RepoNotFound"
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class File(NamedTuple):
    data: bytes
    commit: str


Act = Callable[[HubStandIn, bool, "re.Match[str]", bytes], tuple[int, Any]]
Table = dict[str, Act]
MISSING: tuple[int, Any] = (404, {"error": "Repository not found"})
NO_RIGHTS: tuple[int, Any] = (401, {"error": "Unauthorized"})
REPO = r"(?P<repo>[^/]+/[^/]+)"


def found(
    hub: HubStandIn, known: bool, match: "re.Match[str]"
) -> tuple[Repo, dict[str, bytes]] | None:
    repo = hub.repos.get(match["repo"])
    if repo is None or (repo.private and not known):
        return None
    files = repo.at(match.groupdict().get("revision") or "main")
    return None if files is None else (repo, files)


def info(hub: HubStandIn, known: bool, match: "re.Match[str]", _: bytes) -> tuple[int, Any]:
    here = found(hub, known, match)
    if here is None:
        return MISSING
    repo, files = here
    return 200, {"id": match["repo"], "sha": sha_of(files), "private": repo.private, "tags": []}


def tree(hub: HubStandIn, known: bool, match: "re.Match[str]", _: bytes) -> tuple[int, Any]:
    here = found(hub, known, match)
    if here is None:
        return MISSING
    repo, files = here
    folders = {name.rpartition("/")[0] for name in files} - {""}
    rows: list[dict[str, object]] = [
        {"type": "directory", "path": path, "oid": "0" * 40} for path in sorted(folders)
    ]
    for name, data in files.items():
        size = repo.claimed.get(name, len(data))
        oid = hashlib.sha1(data).hexdigest()
        rows.append({"type": "file", "path": name, "size": size, "oid": oid})
    return 200, rows


def resolve(hub: HubStandIn, known: bool, match: "re.Match[str]", _: bytes) -> tuple[int, Any]:
    here = found(hub, known, match)
    if here is None or match["path"] not in here[1]:
        return MISSING
    return 200, File(here[1][match["path"]], sha_of(here[1]))


def create(hub: HubStandIn, known: bool, _: "re.Match[str]", body: bytes) -> tuple[int, Any]:
    if not known:
        return NO_RIGHTS
    asked = json.loads(body)
    name = f"{asked['organization']}/{asked['name']}"
    answer = {"url": f"{hub.endpoint}/{name}"}
    if name in hub.repos:
        return 409, answer
    hub.repos[name] = Repo(asked.get("visibility") == "private")
    return 200, answer


def validate(_: HubStandIn, known: bool, match: "re.Match[str]", body: bytes) -> tuple[int, Any]:
    card = json.loads(body)["content"]
    good = card.startswith("---\n") and "\nmodel-index:\n" in card
    faults = [] if good else [{"message": "no front matter"}]
    return 200 if good else 400, {"errors": faults, "warnings": []}


def preupload(hub: HubStandIn, known: bool, match: "re.Match[str]", body: bytes) -> tuple[int, Any]:
    repo, rows = hub.repos[match["repo"]], []
    if repo.meanwhile:
        repo.commits.append(repo.files | repo.meanwhile)
    for file in json.loads(body)["files"]:
        large = hub.lfs and file["path"].endswith((".safetensors", ".png"))
        mode = "lfs" if large else "regular"
        rows.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False})
    return (200, {"files": rows}) if known else NO_RIGHTS


def lfs_batch(hub: HubStandIn, known: bool, _: "re.Match[str]", body: bytes) -> tuple[int, Any]:
    objects = json.loads(body)["objects"]
    for entry in objects:
        entry["actions"] = {"upload": {"href": f"{hub.endpoint}/lfs/{entry['oid']}"}}
    return (200, {"transfer": "basic", "objects": objects}) if known else NO_RIGHTS


def lfs_put(hub: HubStandIn, _: bool, match: "re.Match[str]", body: bytes) -> tuple[int, Any]:
    if hashlib.sha256(body).hexdigest() != match["oid"]:
        return 400, {"error": "not the content that was announced"}
    hub.blobs[match["oid"]] = body
    return 200, {}


def commit(hub: HubStandIn, known: bool, match: "re.Match[str]", body: bytes) -> tuple[int, Any]:
    if not known:
        return NO_RIGHTS
    repo = hub.repos[match["repo"]]
    files = dict(repo.files)
    for line in body.splitlines():
        kind, value = (json.loads(line)[key] for key in ("key", "value"))
        if kind == "header" and value.get("parentCommit") not in (None, sha_of(repo.files)):
            return 412, {"error": "A commit has happened since."}
        if kind == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif kind == "lfsFile":
            files[value["path"]] = hub.blobs[value["oid"]]
        elif kind == "deletedFile":
            del files[value["path"]]
    repo.commits.append(files)
    sha = sha_of(files)
    address = f"{hub.endpoint}/{match['repo']}/commit/{sha}"
    return 200, {"commitUrl": address, "commitOid": sha, "pullRequestUrl": ""}


READS: Table = {
    rf"/api/models/{REPO}(/revision/(?P<revision>[^/]+))?": info,
    rf"/api/models/{REPO}/tree/(?P<revision>[^/]+)": tree,
    rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)": resolve,
}
WRITES: Table = {
    r"/api/repos/create": create,
    r"/api/validate-yaml": validate,
    rf"/api/models/{REPO}/preupload/main": preupload,
    rf"/{REPO}\.git/info/lfs/objects/batch": lfs_batch,
    r"/lfs/(?P<oid>[0-9a-f]{64})": lfs_put,
    rf"/api/models/{REPO}/commit/main": commit,
}
