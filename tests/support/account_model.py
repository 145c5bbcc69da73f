"""A plain model of accounts: addresses, passwords, sessions, personal tokens and mailed codes."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
DAY, WEEK = timedelta(days=1), timedelta(days=7)
GRACE = 10 * SECOND
JWT_LIFETIME, SESSION_LIFETIME, PERSONAL_LIFETIME = 30 * MINUTE, 2 * WEEK, 90 * DAY

OPAQUE, JWT, PERSONAL = "opaque", "jwt", "personal"
RESET = "A new password"
VERIFICATION, NEW_ADDRESS = "Please confirm your address", "Please confirm your new address"
VERIFICATIONS = (VERIFICATION, NEW_ADDRESS)
CHANGE_REQUESTED, CHANGED = "Your address is about to change", "Your address has changed"
UNDO = (CHANGE_REQUESTED, CHANGED)
PASSWORD_CHANGED, TOKEN_CREATED = "Your password has changed", "A new personal token"
# For so long a code is valid, or a notice is tried.
LIFETIMES = {
    RESET: 30 * MINUTE,
    VERIFICATION: DAY,
    NEW_ADDRESS: DAY,
    CHANGE_REQUESTED: WEEK,
    CHANGED: WEEK,
    PASSWORD_CHANGED: 3 * DAY,
    TOKEN_CREATED: 3 * DAY,
}

# The last two are one mailbox.
ADDRESSES = ("one@example.com", "two@example.com", "three@example.com", "Three@Example.com")
PASSWORDS = ("correct horse", "battery staple", "purple monkey")
WRONG_PASSWORD = "wrong horse"


def now() -> datetime:
    return datetime.now(UTC)


class Entity:
    number: int

    def __repr__(self) -> str:
        return f"{type(self).__name__.lower()} {self.number}"

    def _repr_pretty_(self, printer: Any, _is_cycle: bool) -> None:
        # Hypothesis would print every field otherwise.
        printer.text(repr(self))


@dataclass(eq=False, repr=False)
class Account(Entity):
    number: int
    email: str
    password: str
    pending_email: str | None = None
    verified_at: datetime | None = None
    is_active: bool = True
    is_deleted: bool = False

    def has_mailbox(self, address: str) -> bool:
        return not self.is_deleted and self.email.lower() == address.lower()

    def verify(self) -> None:
        self.verified_at = self.verified_at or now()

    def move_to(self, address: str) -> None:
        """Change the address to one that a code proves."""
        if self.email != address:
            self.email, self.verified_at = address, None
        self.verify()


@dataclass(eq=False, repr=False)
class Login(Entity):
    """A session or a personal token, with everything that was issued for it."""

    number: int
    account: Account
    kind: str
    expires_at: datetime
    # Each with the time at which it expires, the oldest first.
    access_tokens: list[tuple[str, datetime]] = field(default_factory=list)
    refresh_tokens: list[str] = field(default_factory=list)
    refreshed_at: datetime = field(default_factory=now)
    is_revoked: bool = False
    # Of the session or the personal token.
    id: int = 0

    @property
    def is_current(self) -> bool:
        return not self.is_revoked and now() < self.expires_at

    @property
    def access_token(self) -> str:
        return self.access_tokens[-1][0]

    def status_of(self, position: int = -1) -> int | None:
        """Return the status of the error with one of the access tokens; None if it works."""
        if not self.is_current or now() >= self.access_tokens[position][1]:
            return 401
        return None if self.account.is_active else 400


@dataclass(eq=False, repr=False)
class Mail(Entity):
    number: int
    kind: str
    recipient: str
    # None for a reset until the delivery has looked the address up.
    account: Account | None
    # Whether the account had a verified address when the mail was written.
    is_verified: bool
    expires_at: datetime
    is_sent: bool = False
    is_void: bool = False
    # Empty: it has none, or was not sent yet.
    code: str = ""

    @property
    def is_current(self) -> bool:
        is_kept = self.account is None or not self.account.is_deleted
        return not self.is_void and is_kept and now() < self.expires_at

    @property
    def is_usable(self) -> bool:
        """Whether the code is accepted."""
        return self.is_current and self.account is not None and self.account.is_active
