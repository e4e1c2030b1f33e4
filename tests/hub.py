"""A Hugging Face hub on loopback: one commit of a few repositories, by the addresses that its libraries ask."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef" * 2 + "01234567"


@contextmanager
def serve(repositories: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Serve directories as "models/owner/name" or "datasets/owner/name"; yield the address and what was asked."""
    asked: list[str] = []
    files = {
        f"{name.removeprefix('models/')}/resolve/{COMMIT}/{path.relative_to(directory).as_posix()}": path.read_bytes()
        for name, directory in repositories.items()
        for path in directory.rglob("*")
        if path.is_file()
    }

    def entries(name: str) -> list[dict[str, object]]:
        start = f"{name.removeprefix('models/')}/resolve/{COMMIT}/"
        return [
            {"type": "file", "path": path.removeprefix(start), "size": len(data), "oid": digest(data)}
            for path, data in files.items()
            if path.startswith(start)
        ]

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path}")
            path = urlsplit(self.path).path.removeprefix("/")
            about = next((name for name in repositories if path.startswith(f"api/{name}/")), None)
            if path in files:
                data = files[path]
                return self.answer(data, {"ETag": f'"{digest(data)}"', "X-Repo-Commit": COMMIT})
            if about is None or COMMIT not in path:
                known = any(
                    path.startswith(f"{name.removeprefix('models/')}/resolve/{COMMIT}") for name in repositories
                )
                code = "EntryNotFound" if known else "RepoNotFound"
                return self.answer({"error": "Not found"}, {"X-Error-Code": code}, 404)
            if "/tree/" in path:
                return self.answer(entries(about) if path.endswith(COMMIT) else [])
            siblings = [{"rfilename": entry["path"]} for entry in entries(about)]
            owner_name = about.partition("/")[2]
            return self.answer({"id": owner_name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []})

        do_HEAD = do_GET

        def answer(self, value: object, headers: dict[str, str] | None = None, status: int = 200) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for header, text in {**(headers or {}), "Content-Length": str(len(data))}.items():
                self.send_header(header, text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()


def digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
