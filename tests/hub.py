"""A small server that speaks as much of the Hub's protocol as its client uses for one repository, and fails as the Hub may."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

NAME = "someone/digits"


class Hub:
    """One repository at one commit; its attributes say what is wrong with it."""

    def __init__(self, url: str):
        self.url = url
        self.commit = "0123456789abcdef0123456789abcdef01234567"
        self.files: dict[str, bytes] = {}
        self.revisions = {"main"}
        self.token: str | None = None
        """Needed to read, if there is one."""
        self.sent: dict[str, bytes] = {}
        """What it sends in place of what it lists."""
        self.cut: int | None = None
        """Bytes of a file after which connections break."""
        self.mends = True
        """Whether a download that broke may go on."""
        self.down = False
        self.silent = threading.Event()
        """Set: answers wait until it is cleared again through ``wake``."""
        self.wake = threading.Event()
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, path and range of each."""
        self.may_write = True
        self.created: list[dict] = []
        self.commits: list[list[dict]] = []
        """The lines of each commit that was sent."""

    def digest(self, file: str) -> str:
        return hashlib.sha256(self.files[file]).hexdigest()

    def commit_files(self, lines: list[dict]) -> None:
        """What a commit does: adds files and takes some away."""
        self.commits.append(lines)
        for line in lines:
            if line["key"] == "file":
                self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                del self.files[line["value"]["path"]]

    def info(self) -> dict:
        siblings = [
            {"rfilename": file, "size": len(content), "blobId": "0" * 40,
             "lfs": {"sha256": self.digest(file), "size": len(content), "pointerSize": 134}}
            for file, content in self.files.items()
        ]  # fmt: skip
        return {"id": NAME, "modelId": NAME, "sha": self.commit, "private": False, "tags": [], "siblings": siblings}


@contextmanager
def served() -> Iterator[Hub]:
    """A Hub on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, self.path, self.headers.get("Range")))
            if hub.silent.is_set():
                hub.wake.wait(30)
                self.close_connection = True
            elif hub.down:
                self.answer(503)
            elif not path.startswith((f"/api/models/{NAME}", f"/api/spaces/{NAME}", f"/{NAME}/resolve/")):
                self.answer(404, {"X-Error-Code": "RepoNotFound"})
            elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                self.answer(401, {"X-Error-Code": "RepoNotFound"})
            elif path.startswith("/api/"):
                self.tell(path)
            else:
                self.send(*path.removeprefix(f"/{NAME}/resolve/").split("/", 1))

        def do_POST(self) -> None:
            path, body = urlsplit(self.path).path, self.rfile.read(int(self.headers["Content-Length"]))
            hub.requests.append((self.command, self.path, None))
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self.answer(401)
            if not hub.may_write and path != "/api/validate-yaml":
                return self.answer(403)
            if path == "/api/repos/create":
                hub.created.append(json.loads(body))
                said = {"url": f"{hub.url}/{NAME}", "id": NAME}
            elif path == "/api/validate-yaml":
                said = {"errors": [], "warnings": []}
            elif path.endswith("/preupload/main"):
                files = json.loads(body)["files"]
                said = {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            else:
                assert path.endswith("/commit/main"), path
                hub.commit_files([json.loads(line) for line in body.splitlines()])
                said = {"commitUrl": f"{hub.url}/{NAME}/commit/{hub.commit}", "commitOid": hub.commit}
            self.answer(200, {"Content-Type": "application/json"}, json.dumps(said).encode())

        def tell(self, path: str) -> None:
            if "/tree/" in path:
                listed = [{"type": "file", "path": file, "size": 1, "oid": "0" * 40} for file in hub.files]
                return self.answer(200, {"Content-Type": "application/json"}, json.dumps(listed).encode())
            revision = path.partition("/revision/")[2] or "main"
            if revision not in {*hub.revisions, hub.commit}:
                return self.answer(404, {"X-Error-Code": "RevisionNotFound"})
            self.answer(200, {"Content-Type": "application/json"}, json.dumps(hub.info()).encode())

        def send(self, commit: str, file: str) -> None:
            assert commit == hub.commit, "a download is not pinned to the commit"
            if file not in hub.files:
                return self.answer(404, {"X-Error-Code": "EntryNotFound"})
            content = hub.sent.get(file, hub.files[file])
            head = {"X-Repo-Commit": hub.commit, "ETag": f'"{hub.digest(file)}"', "Accept-Ranges": "bytes"}
            if self.command == "HEAD":
                return self.answer(200, head | {"Content-Length": str(len(content))})
            begun = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") :].rstrip("-"))
            if begun:
                head["Content-Range"] = f"bytes {begun}-{len(content) - 1}/{len(content)}"
            if hub.cut is not None and (begun == 0 or not hub.mends):
                return self.answer(200 if begun == 0 else 206, head, content[begun:], hub.cut if begun == 0 else 0)
            self.answer(206 if begun else 200, head, content[begun:])

        def answer(
            self, status: int, head: dict[str, str] | None = None, body: bytes = b"", cut: int | None = None
        ) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | (head or {})).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body if cut is None else body[:cut])
            self.close_connection = cut is not None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.wake.set()
        server.shutdown()
        server.server_close()
        thread.join()
