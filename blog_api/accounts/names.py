"""The index of users by the words of their names.

`name_keys` has the folded name from each of its words on: `Anna Karenina` has the keys
`anna karenina` and `karenina`. The users with a text at the beginning of a word are a range of it.
A name with accents has the keys without them too. In a script without spaces between words, a word
begins at each character.
`Anna Annan` is found twice by `ann`: the key `annan` shares four characters with the key before,
`anna annan`, and is left out of searches by as many or less.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise, takewhile
from typing import Any

from sqlalchemy import ColumnElement, case, delete
from sqlmodel import and_, col, func, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.accounts.models import MAX_NAME_KEY_LENGTH, NameKey, User
from blog_api.core.fields import tag_key
from blog_api.db.queries import insert_if_missing
from blog_api.db.rebuild import Derived, Span
from blog_api.db.session import Database
from blog_api.text.tokenizer import RUN, fold_accents

# Empty, and so without keys, for a user who is not listed.
NAME_IN_LIST: ColumnElement[str] = case((col(User.is_listed), col(User.name)), else_="")
LAST_CHARACTER = "\U0010ffff"


def fold_name(text: str) -> str:
    """Fold a name, or the beginning of one, as tags are folded."""
    return " ".join(tag_key(text).split())[:MAX_NAME_KEY_LENGTH]


def count_shared(text: str, other: str) -> int:
    """Return the length of the common beginning of two texts."""
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, other, strict=False))
    )


def make_name_keys(user_id: int, name: str) -> list[dict[str, Any]]:
    """Return the rows of `name_keys` for a user."""
    text = fold_name(name)
    texts = (text, fold_accents(text)[:MAX_NAME_KEY_LENGTH])
    keys = sorted({key for one in texts for key in split_name(one)})
    return [
        {"user_id": user_id, "key": key, "shared_length": count_shared(before, key)}
        for before, key in pairwise(["", *keys])
    ]


def split_name(text: str) -> Iterator[str]:
    """Yield a folded name from each of its words on."""
    is_word = [unicodedata.category(character)[0] in "LMN" for character in text]
    in_run = {n for run in RUN.finditer(text) for n in range(*run.span())}
    for n in range(len(text)):
        if n == 0 or (is_word[n] and (n in in_run or not is_word[n - 1])):
            yield text[n:]


async def index_names(session: AsyncSession, names: Mapping[int, str]) -> None:
    """Index users by their names, by id. A trigger has removed the keys of former names."""
    rows = [row for user_id, name in names.items() for row in make_name_keys(user_id, name)]
    if rows:
        await insert_if_missing(session, NameKey, *rows)


async def find_wrong_names(database: Database, span: Span) -> Collection[int]:
    """Return the users who have other keys than those of their names."""
    query = (
        select(User.id, NAME_IN_LIST, NameKey.key, NameKey.shared_length)
        .outerjoin(NameKey, col(NameKey.user_id) == col(User.id))
        .where(span.contains(User.id))
    )
    names: dict[int, str] = {}
    stored = defaultdict(set)
    async with database.session(writes=False) as session:
        for user_id, name, key, shared_length in await session.exec(query):
            names[user_id] = name
            if key is not None:
                stored[user_id].add((key, shared_length))
    return [
        user_id
        for user_id, name in names.items()
        if stored[user_id]
        != {(row["key"], row["shared_length"]) for row in make_name_keys(user_id, name)}
    ]


async def index_names_again(session: AsyncSession, user_ids: Collection[int]) -> None:
    query = select(User.id, NAME_IN_LIST).where(col(User.id).in_(user_ids)).order_by(col(User.id))
    names = dict((await session.exec(query.with_for_update(key_share=True))).all())
    await session.exec(delete(NameKey).where(col(NameKey.user_id).in_(names)))
    await index_names(session, names)


NAMES = Derived("names", select(User.id), find_wrong_names, index_names_again)


def has_key(prefix: str) -> ColumnElement[bool]:
    """Return the condition of one key of each user with keys that begin with a folded text."""
    key = col(NameKey.key)
    # Unlike LIKE, these bounds are a range of the index.
    is_in_range = and_(key >= prefix, key < prefix + LAST_CHARACTER)
    return and_(is_in_range, col(NameKey.shared_length) < len(prefix))


def find_keys(text: str) -> ColumnElement[bool]:
    """Return the condition of the keys that a text finds, with or without accents.

    Names that the version before has written have no keys without accents.
    """
    return or_(*map(has_key, {text, fold_accents(text)}))


def users_by_name(text: str, *, skip: int, limit: int) -> SelectOfScalar[User]:
    """Select the users with a key that begins with a folded text, in the order of their keys."""
    key = func.min(NameKey.key).label("key") if fold_accents(text) != text else col(NameKey.key)
    query: Any = select(key, NameKey.user_id).where(find_keys(text))
    if fold_accents(text) != text:
        query = query.group_by(col(NameKey.user_id))
    found = query.order_by(key, col(NameKey.user_id)).offset(skip).limit(limit).subquery()
    users = select(User).join(found, found.c.user_id == col(User.id))
    return users.order_by(found.c.key, found.c.user_id)
