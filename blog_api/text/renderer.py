"""Render and tokenize texts without blocking the event loop, in processes that can be killed.

Markdown has no worst case that is fast: 500,000 brackets take minutes, and Python cannot stop a
thread. Short texts with few brackets, cells and quotes are rendered at once, and so is short HTML:
that takes half a millisecond, 12 ms at worst. All others go to worker processes with limited memory
and CPU time (`blog_api.text.markdown`), which are killed after a timeout; the text is then shown as
preformatted text. There are three lanes, each with a slot per core: one for texts of up to
`MAX_SHORT_LENGTH` characters, one for longer texts, and one for other work, such as decoding a
picture, so that what takes long does not delay what does not. One owner has one slot at a time, and
owners take turns: while a few of them fill a lane with slow texts, the first text of another one is
next. A text that waits too long for its slot is rejected with ServiceUnavailable.
"""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, TypeVar
from weakref import WeakValueDictionary

import anyio
import anyio.to_process
from anyio import BrokenWorkerProcess, CapacityLimiter
from fastapi import Depends, Request

from blog_api.core.errors import ServiceUnavailable
from blog_api.core.fair_slots import FairSlots
from blog_api.core.security import count_available_cores
from blog_api.text.lexemes import IndexedWords, index_words, index_words_in_process
from blog_api.text.markdown import (
    HTML,
    Source,
    render_in_process,
    render_plain_text,
    render_within_limits,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

# Longer than `CPU_SECONDS`: the machine may be busy.
RENDER_TIMEOUT_SECONDS = 15.0
# Of commands, for which no client waits: only the limit of CPU time decides.
COMMAND_TIMEOUT_SECONDS = 300.0
QUEUE_TIMEOUT_SECONDS = 10.0

# In characters; the slowest known text of this length takes half a second.
MAX_SHORT_LENGTH = 20_000

# Rendered at once; the slowest known text within these limits takes 12 ms.
MAX_INLINE_LENGTH = 2_000
MAX_INLINE_BRACKETS = 10
# The cells of a table, and the levels of quotes, which every line below them may continue.
MAX_INLINE_CELLS = 3_000


def is_inexpensive(source: Source) -> bool:
    """Return whether a text is rendered at once, while nothing else runs."""
    text = source.content
    if len(text) > MAX_INLINE_LENGTH:
        return False
    if source.content_type == HTML:
        return True
    if text.count("[") > MAX_INLINE_BRACKETS:
        return False
    lines = text.count("\n") + text.count("\r")
    return (text.count("|") + text.count(">")) * lines <= MAX_INLINE_CELLS


class Renderer:
    """Renders texts, each in at most `seconds` after it has its slot.

    Frames from `iframe_hosts` stay in the HTML.
    """

    def __init__(
        self, seconds: float = RENDER_TIMEOUT_SECONDS, *, iframe_hosts: Collection[str] = ()
    ) -> None:
        self.seconds = seconds
        self.iframe_hosts = frozenset(iframe_hosts)
        self._cores = count_available_cores()
        self._processes = CapacityLimiter(3 * self._cores)
        self._short, self._long, self._other = (
            FairSlots(self._cores, favors_new=True) for _ in range(3)
        )
        self._owners: WeakValueDictionary[int, CapacityLimiter] = WeakValueDictionary()

    async def render(self, source: Source, *, owner: int | None = None) -> str:
        """Return the text as HTML, preformatted if it is too expensive to render.

        Raises ServiceUnavailable if too many texts wait. The caller holds no transaction, unless
        `is_inexpensive()`.
        """
        text = source.content
        if is_inexpensive(source):
            html = render_within_limits(source, self.iframe_hosts)
        else:
            lane = self._short if len(text) <= MAX_SHORT_LENGTH else self._long
            async with self._slot(lane, owner):
                html = await self._render(source)
        return render_plain_text(text) if html is None else html

    async def index_words(
        self, sources: Sequence[tuple[str, Sequence[str], str]], *, owner: int | None = None
    ) -> list[IndexedWords] | None:
        """Return the words of posts by title, tags and content, or None if that takes too long.

        Raises ServiceUnavailable as `render()` does.
        """
        length = sum(len(content) for _, _, content in sources)
        if length <= MAX_INLINE_LENGTH:
            return [index_words(*source) for source in sources]
        lane = self._short if length <= MAX_SHORT_LENGTH else self._long
        label = f"the words of {length} characters"
        async with self._slot(lane, owner):
            return await self._run(
                index_words_in_process, sources, seconds=self.seconds, label=label
            )

    async def run_in_process(
        self, work: Callable[..., T], *args: object, owner: int, seconds: float
    ) -> T | None:
        """Run other slow work, which limits itself, in a lane of its own.

        Return None if it was killed. Raises ServiceUnavailable as `render()` does.
        """
        async with self._slot(self._other, owner):
            return await self._run(work, *args, seconds=seconds, label=work.__name__)

    @asynccontextmanager
    async def _slot(self, lane: FairSlots, owner: int | None) -> AsyncIterator[None]:
        async with AsyncExitStack() as slots:
            try:
                with anyio.fail_after(QUEUE_TIMEOUT_SECONDS):
                    if owner is not None:
                        of_owner = self._owners.setdefault(owner, CapacityLimiter(1))
                        await slots.enter_async_context(of_owner)
                    await slots.enter_async_context(lane.slot(owner))
            except TimeoutError:
                raise ServiceUnavailable from None
            yield

    async def render_all(self, sources: Sequence[Source]) -> list[str]:
        """Return the texts as HTML, in their order; one per core is rendered at a time."""
        html = [""] * len(sources)
        indexes = iter(range(len(sources)))

        async def render_remaining() -> None:
            for index in indexes:
                html[index] = await self.render(sources[index])

        async with anyio.create_task_group() as tasks:
            for _ in range(self._cores):
                tasks.start_soon(render_remaining)
        return html

    async def _render(self, source: Source) -> str | None:
        label = f"a text of {len(source.content)} characters"
        return await self._run(
            render_in_process, source, self.iframe_hosts, seconds=self.seconds, label=label
        )

    async def _run(
        self, work: Callable[..., T], *args: object, seconds: float, label: str
    ) -> T | None:
        try:
            with anyio.move_on_after(seconds):
                return await anyio.to_process.run_sync(
                    work, *args, cancellable=True, limiter=self._processes
                )
            log.warning("Timed out: %s", label)
        except BrokenWorkerProcess as error:
            log.warning("Killed its process: %s: %s", label, error)
        return None


async def get_renderer(request: Request) -> Renderer:
    renderer: Renderer = request.app.state.renderer
    return renderer


RendererDep = Annotated[Renderer, Depends(get_renderer)]
