"""HTTP protocol of the server: limit the headers, and ignore trailers.

httptools has no limit: headers without end would fill the memory, and megabytes of cookies block
the event loop while they are parsed.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Beside what the server receives at once with it, up to 256 KiB.
MAX_HEAD_BYTES = 64 * 1024


class LimitedHttpProtocol(HttpToolsProtocol):
    """Close the connection if headers, trailers or the extension of a chunk are too large.

    They count as long as neither the end of the headers nor a part of a body arrives.
    """

    _has_progress = False
    _size = 0

    def data_received(self, data: bytes) -> None:
        self._has_progress = False
        super().data_received(data)
        self._size = 0 if self._has_progress else self._size + len(data)
        if self._size <= MAX_HEAD_BYTES or self.transport.is_closing():
            return
        # uvicorn 0.54: `scope` gets its method when the headers are complete.
        if self.scope is None or "method" not in self.scope:
            self.send_400_response("The headers are too large.")
        else:
            self.transport.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if "method" not in self.scope:
            super().on_header(name, value)
        # Trailers are no headers (RFC 9110, 6.5.1), but after this one the parser stops.
        elif name.lower() == b"connection" and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_headers_complete(self) -> None:
        self._has_progress = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._has_progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._has_progress = True
        super().on_message_complete()
