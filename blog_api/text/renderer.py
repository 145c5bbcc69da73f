"""Rendering: Markdown in processes of its own, which can be stopped."""

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Annotated
from weakref import WeakValueDictionary

import anyio
import anyio.to_process
import anyio.to_thread
from anyio import BrokenWorkerProcess, CapacityLimiter
from fastapi import Depends, Request

from blog_api.core.errors import ServiceUnavailable
from blog_api.core.security import count_available_cores
from blog_api.text.markdown import render_in_process, render_plain_text, render_within_limits

log = logging.getLogger(__name__)


# How long one text may take, beside `CPU_SECONDS`, on a machine that has other things to do; and
# how long it may wait for its turn, in seconds.
RENDER_TIMEOUT_SECONDS = 15.0


QUEUE_TIMEOUT_SECONDS = 10.0


# In characters. The worst that is known takes half a second.
MAX_SHORT_LENGTH = 20_000


# A text that is no longer and has no more brackets is done in milliseconds: the worst that is
# known takes twenty.
MAX_INLINE_LENGTH = 2_000


MAX_INLINE_BRACKETS = 10


class Renderer:
    """Renders in processes that are killed when a text takes too long, one for each core.

    A thread cannot be stopped, and while it renders all others wait for it: one is enough for
    what is tiny. Texts that are short enough to be done soon have processes of their own, and of
    an owner's texts one at a time is rendered, so that nobody's texts keep those of others
    waiting.
    """

    def __init__(self, seconds: float = RENDER_TIMEOUT_SECONDS) -> None:
        self.seconds = seconds
        self._cores = count_available_cores()
        self._processes = CapacityLimiter(2 * self._cores)
        self._threads = CapacityLimiter(self._cores)
        self._short, self._long = CapacityLimiter(self._cores), CapacityLimiter(self._cores)
        self._owners: WeakValueDictionary[int, CapacityLimiter] = WeakValueDictionary()

    async def render(self, text: str, *, owner: int | None = None) -> str:
        """The text as HTML: rendered, or as it is where that takes too long.

        Raises ServiceUnavailable where too many others wait. The caller holds no transaction.
        """
        lane = self._short if len(text) <= MAX_SHORT_LENGTH else self._long
        async with AsyncExitStack() as turns:
            try:
                with anyio.fail_after(QUEUE_TIMEOUT_SECONDS):
                    if owner is not None:
                        mine = self._owners.setdefault(owner, CapacityLimiter(1))
                        await turns.enter_async_context(mine)
                    await turns.enter_async_context(lane)
            except TimeoutError:
                raise ServiceUnavailable from None
            html = await self._render(text)
        return render_plain_text(text) if html is None else html

    async def render_all(self, texts: Sequence[str]) -> list[str]:
        """Each of these texts as HTML: as many at a time as there are cores."""
        html = [""] * len(texts)
        places = iter(range(len(texts)))

        async def take_turns() -> None:
            for place in places:
                html[place] = await self.render(texts[place])

        async with anyio.create_task_group() as tasks:
            for _ in range(self._cores):
                tasks.start_soon(take_turns)
        return html

    async def _render(self, text: str) -> str | None:
        if len(text) <= MAX_INLINE_LENGTH and text.count("[") <= MAX_INLINE_BRACKETS:
            return await anyio.to_thread.run_sync(render_within_limits, text, limiter=self._threads)
        try:
            with anyio.move_on_after(self.seconds):
                return await anyio.to_process.run_sync(
                    render_in_process, text, cancellable=True, limiter=self._processes
                )
            log.warning("A text of %d characters takes too long to render", len(text))
        except BrokenWorkerProcess as error:
            log.warning("A text of %d characters ends its renderer: %s", len(text), error)
        return None


async def get_renderer(request: Request) -> Renderer:
    renderer: Renderer = request.app.state.renderer
    return renderer


RendererDep = Annotated[Renderer, Depends(get_renderer)]
