"""Mails of the application under test."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastapi import FastAPI

from blog_api.accounts.recovery import prepare_mail
from blog_api.mail.outbox import Outbox
from blog_api.mail.texts import Message

CODE = re.compile(r"\b\d+\.[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")


@dataclass
class Mailbox:
    """Delivers the mails that are due when it is asked to, and keeps them."""

    app: FastAPI
    messages: list[Message] = field(default_factory=list)

    async def receive(self) -> Sequence[Message]:
        """Deliver what is due; return the messages that were sent since the last call."""
        state = self.app.state
        outbox = Outbox(state.settings, state.database, prepare_mail)
        count = len(self.messages)
        while mail := await outbox.claim():
            await outbox.deliver(mail, state.secret_keys, self.keep)
        return self.messages[count:]

    async def receive_code(self, recipient: str, subject: str = "") -> str:
        """Deliver what is due; return the code of the only new message to this recipient."""
        (message,) = (
            one
            for one in await self.receive()
            if one.recipient == recipient and subject in one.subject
        )
        return find_code(message)

    async def keep(self, message: Message) -> None:
        self.messages.append(message)


def find_code(message: Message) -> str:
    (code,) = CODE.findall(message.text)
    return str(code)
