"""The state of the model of accounts, and the checks of the service against it."""

import sys
from datetime import datetime
from functools import partial
from random import Random
from typing import Any, ClassVar

import anyio.from_thread
import time_machine
from fastapi import FastAPI
from httpx import AsyncClient, Response
from hypothesis import note
from hypothesis.stateful import RuleBasedStateMachine
from sqlmodel import col, delete, update

from blog_api.accounts.models import User
from blog_api.db.base import TableBase
from blog_api.mail.codes import find_mail
from blog_api.mail.models import MailKind
from tests.support.account_model import (
    JWT,
    LIFETIMES,
    PERSONAL,
    RESET,
    UNDO,
    VERIFICATIONS,
    Account,
    Login,
    Mail,
    now,
)
from tests.support.clients import ALL_SCOPES, PASSWORD, bearer
from tests.support.mailbox import CODE, Mailbox

START = datetime.fromisoformat("2030-01-31T12:00:00Z")
ADMIN = "admin@example.com"


class AccountState(RuleBasedStateMachine):
    app: ClassVar[FastAPI]
    client: ClassVar[AsyncClient]
    mailbox: ClassVar[Mailbox]

    def __init__(self) -> None:
        super().__init__()
        # All that there ever were, the oldest first.
        self.accounts: list[Account] = []
        self.logins: list[Login] = []
        self.mails: list[Mail] = []
        self.is_mail_held = False
        # Decides what is checked after a step.
        self.random = Random(0)
        travel = time_machine.travel(START, tick=False)
        self.clock = travel.start()
        self.stop_clock = travel.stop
        anyio.from_thread.run(self.prepare_database)

    def teardown(self) -> None:
        """Check everything at the end."""
        try:
            if sys.exc_info()[0] is None:
                self.check_state(share=1)
        finally:
            self.stop_clock()

    async def prepare_database(self) -> None:
        """Empty the database, except for an administrator."""
        async with self.app.state.database.session(writes=True) as session:
            for table in reversed(TableBase.metadata.sorted_tables):
                await session.exec(delete(table))
        new = {"email": ADMIN, "name": "Admin", "password": PASSWORD}
        assert (await self.client.post("/users", json=new)).status_code == 201
        async with self.app.state.database.session(writes=True) as session:
            await session.exec(update(User).where(col(User.email) == ADMIN).values(is_admin=True))
        await self.mailbox.receive()

    # Requests.

    def request(
        self, method: str, path: str, *, expect: int, token: str | None = None, **values: Any
    ) -> Response:
        headers = {} if token is None else bearer(token)
        send = partial(self.client.request, method, path, headers=headers, **values)
        response: Response = anyio.from_thread.run(send)
        assert response.status_code == expect, (method, path, values, response.text)
        return response

    def request_as(
        self, login: Login, method: str, path: str, *, expect: int, **values: Any
    ) -> Response | None:
        """Send a request with the newest access token; None if the token is rejected."""
        status = login.status_of()
        note(f"  {login} of {login.account}: {method} {path} {values}: {status or expect}")
        token = login.access_token
        response = self.request(method, path, expect=status or expect, token=token, **values)
        return None if status else response

    def request_as_admin(self, path: str, changes: dict[str, bool]) -> None:
        form = {"username": ADMIN, "password": PASSWORD, "scope": ALL_SCOPES}
        token = self.request("POST", "/auth", data=form, expect=200).json()["access_token"]
        self.request("PATCH", path, json=changes, token=token, expect=200)

    # What a step draws from.

    @property
    def current_accounts(self) -> list[Account]:
        return [account for account in self.accounts if not account.is_deleted]

    @property
    def weighted_logins(self) -> list[Login]:
        """All log-ins; those that work are drawn more often, the newest first."""
        return [
            login for login in reversed(self.logins) for _ in range(1 if login.status_of() else 20)
        ]

    @property
    def jwt_logins(self) -> list[Login]:
        return [login for login in self.weighted_logins if login.kind == JWT]

    @property
    def codes(self) -> list[Mail]:
        """Mails with codes; valid ones are drawn more often, the newest first."""
        return [
            mail
            for mail in reversed(self.mails)
            if mail.code
            for _ in range(9 if mail.is_usable else 1)
        ]

    @property
    def reset_codes(self) -> list[Mail]:
        return [mail for mail in self.codes if mail.kind == RESET]

    @property
    def verification_codes(self) -> list[Mail]:
        return [mail for mail in self.codes if mail.kind in VERIFICATIONS]

    @property
    def undo_codes(self) -> list[Mail]:
        return [mail for mail in self.codes if mail.kind in UNDO]

    # Changes of the model.

    def add_login(
        self, account: Account, kind: str, secret: str, expires_at: datetime, end: datetime
    ) -> Login:
        login = Login(len(self.logins), account, kind, end, [(secret, expires_at)])
        self.logins.append(login)
        return login

    def revoke_logins(self, account: Account, *, except_for: Login | None = None) -> None:
        for login in self.logins:
            if login.account is account and login is not except_for:
                login.is_revoked = True

    def write_mail(self, kind: str, recipient: str, account: Account | None) -> None:
        is_verified = account is not None and account.verified_at is not None
        expires_at = now() + LIFETIMES[kind]
        number = len(self.mails)
        self.mails.append(Mail(number, kind, recipient, account, is_verified, expires_at))

    def void_mails(self, account: Account, *kinds: str) -> None:
        for mail in self.mails:
            mail.is_void |= mail.account is account and mail.kind in kinds

    def drop_pending_email(self, account: Account) -> None:
        """Drop the pending address, and with it the codes that were mailed there."""
        account.pending_email = None
        for mail in self.mails:
            is_other = mail.account is account and mail.recipient != account.email
            mail.is_void |= is_other and mail.kind in VERIFICATIONS

    def find_account(self, address: str) -> Account | None:
        found = (account for account in self.accounts if account.has_mailbox(address))
        return next(found, None)

    def is_taken(self, address: str, by_other_than: Account) -> bool:
        holder = self.find_account(address)
        return holder is not None and holder is not by_other_than

    # Checks.

    def deliver_mails(self) -> None:
        """Deliver what is due; check that exactly the expected mails arrive."""
        expected: list[Mail] = []
        for mail in self.mails:
            if mail.is_sent or not mail.is_current:
                continue
            if mail.kind == RESET:
                account = self.find_account(mail.recipient)
                if account is None or not account.is_active:
                    mail.is_void = True
                    continue
                self.void_mails(account, RESET)
                mail.account, mail.recipient = account, account.email
            mail.is_sent = True
            expected.append(mail)
        for message in anyio.from_thread.run(self.mailbox.receive):
            shown = (message.subject.partition(": ")[2], message.recipient)
            same = [mail for mail in expected if (mail.kind, mail.recipient) == shown]
            assert same, f"unexpected mail: {message}"
            expected.remove(same[0])
            codes = CODE.findall(message.text)
            same[0].code = codes[0] if codes else ""
        assert not expected, [(mail.kind, mail.recipient) for mail in expected]

    def check_token(self, login: Login, position: int) -> None:
        expect = login.status_of(position) or 200
        token, _ = login.access_tokens[position]
        response = self.request("GET", "/users/me", token=token, expect=expect)
        detail = response.json().get("detail")
        assert (detail == "Inactive user") == (expect == 400)

    def check_account(self, login: Login) -> None:
        """Check the account and its lists with a log-in that works."""
        account = login.account
        token = login.access_token
        shown = self.request("GET", "/users/me", token=token, expect=200).json()
        verified_at = shown["email_verified_at"]
        assert (shown["email"], shown["pending_email"]) == (account.email, account.pending_email)
        assert (verified_at and datetime.fromisoformat(verified_at)) == account.verified_at
        current = [one for one in self.logins if one.account is account and one.is_current]
        for path, is_personal in (("/users/me/sessions", False), ("/users/me/tokens", True)):
            page = self.request("GET", f"{path}?size=100", token=token, expect=200).json()
            listed = [one for one in current if (one.kind == PERSONAL) == is_personal]
            ids = sorted((one.id for one in listed), reverse=True)
            assert [one["id"] for one in page["results"]] == ids
            assert page["total_count"] == len(ids)
            marked = [one["id"] for one in page["results"] if one.get("is_current")]
            assert marked == ([login.id] if login in listed and not is_personal else [])

    async def check_codes(self) -> None:
        """Check which codes are valid, without using them."""
        kinds = tuple(MailKind)
        async with self.app.state.database.session(writes=False) as session:
            for mail in self.mails:
                if mail.code:
                    found = await find_mail(session, self.app.state.secret_keys, mail.code, *kinds)
                    assert (found is not None) == mail.is_current, (mail, mail.kind)

    def check_state(self, share: float) -> None:
        """Check this share of the tokens and accounts, and all codes."""
        for login in self.logins:
            for position in range(len(login.access_tokens)):
                if self.random.random() < share:
                    self.check_token(login, position)
        for account in self.current_accounts:
            working = [
                one for one in self.logins if one.account is account and one.status_of() is None
            ]
            if working and self.random.random() < share:
                self.check_account(self.random.choice(working))
        anyio.from_thread.run(self.check_codes)
