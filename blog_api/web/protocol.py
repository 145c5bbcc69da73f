"""HTTP protocol of the server: limit the request line and the headers.

httptools has no limit: headers without end would fill the memory, and megabytes of cookies block
the event loop while they are parsed.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Beside the first and the last part that the server receives at once, each up to 256 KiB.
MAX_HEAD_BYTES = 64 * 1024


class LimitedHttpProtocol(HttpToolsProtocol):
    """Respond with 400 to a request with a head that is too large, and close the connection."""

    # uvicorn 0.54: `scope` gets its method when the head is complete.
    _incomplete: Any = None
    _head_size = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.scope is None or "method" in self.scope:
            return
        if self.scope is not self._incomplete:
            # The part may have the end of another request.
            self._incomplete, self._head_size = self.scope, 0
            return
        self._head_size += len(data)
        if self._head_size > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The headers are too large.")
