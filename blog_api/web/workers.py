"""Server processes: they respond to what has reached them before they stop, and are replaced."""

import asyncio
import logging
import os
import signal
import socket
from multiprocessing import parent_process
from threading import Thread, Timer

from uvicorn import Config, Server
from uvicorn.lifespan.on import LifespanOn
from uvicorn.supervisors import Multiprocess, multiprocess

from blog_api.core.settings import load_settings

log = logging.getLogger(__name__)

# For how long a process still accepts connections after it was told to stop, and then waits for
# the requests of those that it has accepted.
ACCEPT_SECONDS = 0.5
DRAIN_SECONDS = 0.5


def end_process() -> None:
    log.error("The process did not stop within BLOG_SHUTDOWN_SECONDS, and is ended")
    os._exit(1)


class DrainingServer(Server):
    """Closes its connections with responses before it stops.

    uvicorn 0.54 alone closes at once, and resets connections that have sent a request.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Threads cannot be cancelled, such as one that sends traces to a collector.
        deadline = Timer(load_settings().shutdown_seconds, end_process)
        deadline.daemon = True
        deadline.start()
        # Responses that have not begun have this header too, and close the connection.
        self.server_state.default_headers.append((b"connection", b"close"))
        await asyncio.sleep(ACCEPT_SECONDS)
        for listener in self.servers:
            listener.close()
        await asyncio.sleep(DRAIN_SECONDS)
        await super().shutdown(sockets)
        # After a second Ctrl-C uvicorn 0.54 does not wait, and does not stop the application.
        if isinstance(self.lifespan, LifespanOn) and not self.lifespan.shutdown_event.is_set():
            await self.lifespan.shutdown()


class WorkerProcess(multiprocess.Process):
    """A worker whose death the parent notices at once.

    uvicorn 0.54 keeps the worker's end of the pipe for health checks open in the parent too. A
    worker that is killed during a check then does not close the pipe: the parent waits for its
    response until the timeout, and neither replaces it nor handles a signal to stop.
    """

    def start(self) -> None:
        # The worker inherits this until uvicorn handles the signal: Ctrl-C reaches it too, and the
        # parent stops it anyway.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        super().start()
        signal.signal(signal.SIGINT, interrupt)
        self.child_conn.close()

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        Thread(target=self._stop_with_parent, daemon=True).start()
        super().target(sockets)

    def _stop_with_parent(self) -> None:
        """Stop when the parent was killed: otherwise a new one could not listen on the port."""
        parent = parent_process()
        assert parent is not None
        parent.join()
        log.error("The parent process has ended: stopping")
        self.server.should_exit = True

    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = DrainingServer(config=self.config)
        return self._server


# The supervisor has no setting for the class of its workers: it finds it by this name, which a type
# checker takes for a class that cannot be replaced.
multiprocess.Process = WorkerProcess  # type: ignore[misc]


class Supervisor(Multiprocess):
    """Stops at once also while it replaces the workers: uvicorn 0.54 replaces all of them first."""

    def __init__(self, config: Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: object) -> None:
        self.signal_queue.append(number)
        # The main thread, which runs this, may hold the lock of the event.
        Thread(target=self.should_exit.set).start()

    def terminate_all(self) -> None:
        self.handle_signals()
        super().terminate_all()
        # Otherwise connections would be accepted until the last worker ends, and then be reset.
        for listener in self.sockets:
            listener.close()
