"""Email addresses of accounts: one mailbox is one account.

`ann@münchen.example` and `Ann@xn--mnchen-3ya.example` are one mailbox. Both have the key
`ann@xn--mnchen-3ya.example`, which is unique in `users.mailbox_key`.

The version before this column leaves it null at a sign-up, and a trigger sets it to null when that
version changes an address. Every look-up and every new address fills the missing keys first, so a
null key hides no mailbox. It stays null only where two accounts have one mailbox: each of them
logs in by its own spelling. They come from before the migration, or from that version, which does
not see the key and may insert another spelling later or at the same moment.
"""

from contextlib import suppress

from sqlalchemy import bindparam, update
from sqlmodel import and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.errors import EmailTaken
from blog_api.accounts.models import LACKS_MAILBOX_KEY, User
from blog_api.core.domains import to_a_labels
from blog_api.core.fields import casefold_key
from blog_api.db.queries import BATCH_SIZE, execute_write, flush_unique, unique_savepoint

# NFKC of the whole address would change domains: it maps U+03F2 to another letter than UTS 46 does.
AT_SIGNS = {ord(sign): "@" for sign in "\ufe6b\uff20"}

# The newest: accounts that share a mailbox do not hide them from the batch.
USERS_WITHOUT_KEY = (
    select(User.id, User.email)
    .where(LACKS_MAILBOX_KEY)
    .order_by(col(User.id).desc())
    .limit(BATCH_SIZE)
)
SET_KEY = (
    update(User)
    .where(
        col(User.id) == bindparam("user"),
        col(User.email) == bindparam("address"),
        LACKS_MAILBOX_KEY,
    )
    .values(mailbox_key=bindparam("key"), updated_at=col(User.updated_at))
)


def mailbox_key(address: str) -> str:
    """Return the key of a mailbox: the domain as A-labels (IDNA 2008), the rest casefolded."""
    local_part, at, domain = address.translate(AT_SIGNS).rpartition("@")
    labels = to_a_labels(domain)
    return casefold_key(local_part) + at + (labels if labels.isascii() else casefold_key(labels))


async def fill_mailbox_keys(session: AsyncSession) -> None:
    """Set the keys that the version before left null, unless another account has the mailbox."""
    found = (await session.exec(USERS_WITHOUT_KEY)).all()
    keys = {user_id: mailbox_key(email) for user_id, email in found if email is not None}
    if not keys:
        return
    query = select(User.mailbox_key).where(col(User.mailbox_key).in_(keys.values()))
    taken = set((await session.exec(query)).all())
    for user_id, address in sorted(found):
        if keys[user_id] not in taken:
            values = {"user": user_id, "address": address, "key": keys[user_id]}
            # Another transaction may have inserted the mailbox meanwhile.
            with suppress(EmailTaken):
                async with unique_savepoint(session, or_raise=EmailTaken):
                    await execute_write(session, SET_KEY, values)
            taken.add(keys[user_id])


async def find_by_email(session: AsyncSession, address: str) -> User | None:
    """Return the account with this mailbox; of two, the one that registered this spelling."""
    await fill_mailbox_keys(session)
    key = mailbox_key(address)
    has_spelling = and_(LACKS_MAILBOX_KEY, col(User.email_key) == casefold_key(address))
    query = (
        select(User)
        .where(or_(col(User.mailbox_key) == key, has_spelling))
        .order_by(col(User.mailbox_key).is_not(None))
        .execution_options(populate_existing=True)
    )
    for user in await session.exec(query):
        # `email_key` is that of `fass.example` for `faß.example` too.
        if user.mailbox_key == key or mailbox_key(user.email or "") == key:
            return user
    return None


async def set_email(session: AsyncSession, user: User, address: str) -> None:
    """Set the address of a new or locked account. Raises EmailTaken.

    The next flush violates a unique constraint if another account has the mailbox.
    """
    await fill_mailbox_keys(session)
    key, email_key = mailbox_key(address), casefold_key(address)
    # The version before has one key for `faß.example` and `fass.example`: the first account has it.
    query = select(User.email).where(col(User.email_key) == email_key, col(User.id) != user.id)
    holder = (await session.exec(query)).first()
    is_free = holder is None or mailbox_key(holder) == key
    is_other_mailbox = user.email is None or mailbox_key(user.email) != key
    if is_other_mailbox:
        user.mailbox_key = key
    user.email_key = email_key if is_free else None
    user.email = address
    if not is_other_mailbox:
        # The trigger sets the key of another spelling to null: a concurrent sign-up could take it.
        await flush_unique(session, or_raise=EmailTaken)
        await fill_mailbox_keys(session)
