"""A web server on this machine that serves well, or badly in one of many ways."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(BaseHTTPRequestHandler):
    """`/<manner>/<name>` gives `files[name]` in a manner of its own; `seen` lists the manners requested."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes] = {}  # noqa: RUF012
    seen: list[str] = []  # noqa: RUF012

    def do_GET(self):
        manner, _, name = self.path.lstrip("/").partition("/")
        self.seen.append(manner)
        content = self.files.get(name.rsplit("/", 1)[-1])
        if content is None or manner == "missing":
            return self.answer(404, b"")
        getattr(self, manner.replace("-", "_"))(content, self.seen.count(manner))

    def answer(self, status, body, length=None, send=None, **headers):
        self.send_response(status)
        if length != "none":
            self.send_header("Content-Length", str(len(body) if length is None else length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body if send is None else body[:send])
        if length is not None or send is not None:
            self.close_connection = True

    def well(self, content, times):
        self.answer(200, content)

    def no_length(self, content, times):
        self.answer(200, content, length="none")

    def breaks_once(self, content, times):
        self.answer(200, content, send=2 * len(content) // 5 if times == 1 else None)

    def too_long(self, content, times):
        """Promises more than there is."""
        self.answer(200, content, length=len(content) + 50)

    def too_short(self, content, times):
        """Promises less than there is: the rest is cut off."""
        self.answer(200, content, length=len(content) - 50)

    def silent(self, content, times):
        """Sends no more after the first bytes, once."""
        self.answer(200, content, send=100 if times == 1 else None)
        if times == 1:
            self.wfile.flush()
            time.sleep(1.5)

    def log_message(self, *_):
        pass


@contextmanager
def serving(**files: bytes):
    """The server's address while it serves these files, and what it has seen; names have `__` for a dot."""
    handler = type("Own", (Server,), {"files": {k.replace("__", "."): v for k, v in files.items()}, "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.seen
    finally:
        server.shutdown()
        server.server_close()
