"""A renderer that waits in the middle of a request."""

import asyncio

from blog_api.text.markdown import Source
from blog_api.text.renderer import Renderer


class PausingRenderer(Renderer):
    """A renderer that pauses before the first text with this content."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.content = content
        self.has_begun = asyncio.Event()
        self.may_continue = asyncio.Event()

    async def render(self, source: Source, *, owner: int | None = None) -> str:
        if source.content == self.content and not self.has_begun.is_set():
            self.has_begun.set()
            await self.may_continue.wait()
        return await super().render(source, owner=owner)
