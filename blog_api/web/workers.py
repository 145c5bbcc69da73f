"""The parent of several server processes: it starts, replaces and stops them."""

from uvicorn.supervisors import Multiprocess


class Supervisor(Multiprocess):
    """Notices at once that a worker died.

    uvicorn 0.54 keeps the worker's end of the pipe for health checks open in the parent too. A
    worker that is killed during a check then does not close the pipe: the parent waits for its
    response until the timeout, and neither replaces it nor handles a signal to stop.
    """

    def keep_subprocess_alive(self) -> None:
        for process in self.processes:
            process.child_conn.close()
        super().keep_subprocess_alive()
