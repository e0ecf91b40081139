"""A web server on this machine that serves well, or badly in one of many ways."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(BaseHTTPRequestHandler):
    """`/<manner>/<name>` gives `files[name]` in a manner of its own; `asked` lists what was asked, with its range."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes] = {}  # noqa: RUF012
    asked: list[tuple[str, str | None]] = []  # noqa: RUF012

    def do_GET(self):
        manner, _, name = self.path.lstrip("/").partition("/")
        range_header = self.headers.get("Range")
        self.asked.append((manner, range_header))
        times = sum(m == manner for m, _ in self.asked)
        content, start = self.files.get(name.rsplit("/", 1)[-1]), 0
        if content is None or manner == "missing":
            return self.answer(404, b"")
        if range_header and manner not in ("no-range", "breaks-and-forgets"):
            start = int(range_header.removeprefix("bytes=").removesuffix("-"))
        etag = f'"v{times}"' if manner == "changes" else '"v1"'
        if self.headers.get("If-Range", etag) != etag:
            start = 0
        if start >= len(content) > 0 and start:
            return self.answer(416, b"")
        getattr(self, manner.replace("-", "_"))(content, start, times, etag)

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

    def part(self, content, start, etag, send=None, **headers):
        if start:
            headers |= {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self.answer(206 if start else 200, content[start:], send=send, ETag=etag, **headers)

    def well(self, content, start, times, etag):
        self.part(content, start, etag)

    def no_length(self, content, start, times, etag):
        self.answer(200, content, length="none")

    def breaks(self, content, start, times, etag):
        """Breaks off after two fifths, twice."""
        self.part(content, start, etag, send=2 * len(content) // 5 if times <= 2 else None)

    changes = breaks

    def no_range(self, content, start, times, etag):
        """Breaks off once, and starts from the beginning whatever is asked."""
        self.part(content, 0, etag, send=len(content) // 2 if times == 1 else None)

    def always_breaks(self, content, start, times, etag):
        self.part(content, start, etag, send=10)

    breaks_and_forgets = always_breaks

    def another_part(self, content, start, times, etag):
        """Breaks off once and then gives another part than the one asked for, until the whole is asked for."""
        if times == 1:
            self.part(content, 0, etag, send=100)
        else:
            self.part(content, start + 7 if start else 0, etag)

    def another_total(self, content, start, times, etag):
        if start:
            span = f"bytes {start}-{len(content) - 1}/{len(content) + 5}"
            return self.answer(206, content[start:], Content_Range=span, ETag=etag)
        self.part(content, 0, etag, send=100 if times == 1 else None)

    def too_long(self, content, start, times, etag):
        """Promises more than there is."""
        self.answer(200, content, length=len(content) + 50, ETag=etag)

    def too_short(self, content, start, times, etag):
        """Promises less than there is: the rest is cut off."""
        self.answer(200, content, length=len(content) - 50, ETag=etag)

    def busy(self, content, start, times, etag):
        if times <= 2:
            return self.answer(503, b"")
        self.part(content, start, etag)

    def silent(self, content, start, times, etag):
        """Says nothing more after the first bytes, once."""
        if times == 1:
            self.part(content, 0, etag, send=100)
            self.wfile.flush()
            time.sleep(1.5)
        else:
            self.part(content, start, etag)

    def packed(self, content, start, times, etag):
        self.answer(200, content, Content_Encoding="gzip")

    def log_message(self, *_):
        pass


@contextmanager
def serving(**files: bytes):
    """The server's address while it serves these files; names have `__` for a dot."""
    handler = type("Own", (Server,), {"files": {k.replace("__", "."): v for k, v in files.items()}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.asked
    finally:
        server.shutdown()
        server.server_close()
