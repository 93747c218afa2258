"""A Hub of one's own: what a client sends to it is kept, and its answers are made up."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast


class Hub(ThreadingHTTPServer):
    """Knows `there` files in every repository, which anybody can read unless `private`."""

    def __init__(self, *, private: bool, there: tuple[str, ...], refuses: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.private, self.there, self.refuses = private, there, refuses
        self.asked: list[str] = []
        self.tokens: set[str] = set()
        self.made: list[dict[str, Any]] = []
        self.files: dict[str, dict[str, bytes]] = {}
        self.deleted: dict[str, list[str]] = {}
        self.messages: list[str] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        """Take a commit in."""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.messages.append(value["summary"])
            elif line["key"] == "file":
                self.files.setdefault(repo, {})[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                self.deleted.setdefault(repo, []).append(value["path"])


class _Answers(BaseHTTPRequestHandler):
    @property
    def hub(self) -> Hub:
        return cast(Hub, self.server)

    def do_GET(self) -> None:
        """What a repository is, or what lies in it."""
        self._note()
        if "/tree/" in self.path:
            self._answer([{"type": "file", "path": path, "oid": "0" * 40, "size": 1} for path in self.hub.there])
        else:
            self._answer({"id": "me/x", "private": self.hub.private, "sha": "0" * 40, "siblings": [], "tags": []})

    def do_POST(self) -> None:
        """Make, ask what goes how, commit."""
        self._note()
        body = self._body()
        if self.hub.refuses:
            self._answer({"error": "no"}, 403)
        elif self.path.endswith("/repos/create"):
            made = json.loads(body)
            self.hub.made.append(made)
            kind = "datasets/" if made.get("type") == "dataset" else ""
            self._answer({"url": f"{self.hub.url}/{kind}{made['organization']}/{made['name']}"})
        elif "/preupload/" in self.path:
            files = [
                {"uploadMode": "regular", "shouldIgnore": False, "oid": None, **f} for f in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            repo = self.path.removeprefix("/api/").partition("/commit/")[0]
            self.hub.commit(repo, [json.loads(line) for line in body.splitlines() if line.strip()])
            where = f"{self.hub.url}/{repo.removeprefix('models/')}/commit/{'1' * 40}"
            self._answer({"success": True, "commitOid": "1" * 40, "commitUrl": where})
        else:
            self._answer({"warnings": [], "errors": []})

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def _note(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path.partition('?')[0]}")
        self.hub.tokens.add(self.headers.get("Authorization") or "")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, value: Any, code: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def hub(*, private: bool = True, there: tuple[str, ...] = (), refuses: bool = False) -> Iterator[Hub]:
    """A Hub for the length of a block."""
    server = Hub(private=private, there=there, refuses=refuses)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
