"""Indexes of users by the words of their names, and of tags by their numbers of posts.

Revision 8d3f60b1c2a4, 2026-11-29. Printed SQL (`--sql`) does not index existing names: Python
computes the keys, and `blog-api rebuild` adds them.
"""

import re
import unicodedata
from itertools import pairwise, takewhile

import sqlalchemy as sa
from alembic import context, op

revision = "8d3f60b1c2a4"
down_revision = "c7f2093ad61b"
branch_labels = None
depends_on = None

KEY_LENGTH = 100
BATCH_SIZE = 1000

# Default_Ignorable_Code_Point, without the tag characters of flags.
IGNORABLE_CHARACTERS = re.compile(
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e001f\U000e0080-\U000e0fff]"
)

# The previous version renames users too, and does not know the keys.
NAME_KEYS_ON_SQLITE = (
    """
    CREATE TRIGGER name_keys_update AFTER UPDATE OF name ON users WHEN new.name <> old.name BEGIN
        DELETE FROM name_keys WHERE user_id = new.id;
    END
    """,
)
NAME_KEYS_ON_POSTGRES = (
    """
    CREATE FUNCTION name_keys_update() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM name_keys WHERE user_id = new.id;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER name_keys_update AFTER UPDATE OF name ON users FOR EACH ROW
    WHEN (new.name <> old.name) EXECUTE FUNCTION name_keys_update()
    """,
)

# One insert in 64 merges the rows that were added since, and the totals of their counters.
IS_MERGING = "(new.id * 40503) % 65536 < 1024"

FOLD_ON_POSTGRES = """
    WITH changed AS (SELECT DISTINCT user_id, tag_id FROM post_counts WHERE NOT is_total),
    folded AS (
        DELETE FROM post_counts USING changed
        WHERE (post_counts.user_id, post_counts.tag_id) = (changed.user_id, changed.tag_id)
        RETURNING post_counts.user_id, post_counts.tag_id, post_counts.delta
    )
    INSERT INTO post_counts (user_id, tag_id, delta, is_total)
    SELECT user_id, tag_id, sum(delta), TRUE FROM folded
    GROUP BY user_id, tag_id HAVING sum(delta) <> 0;
"""

CHANGED_ON_SQLITE = """
    id <= new.id AND (user_id, tag_id) IN (
        SELECT user_id, tag_id FROM post_counts WHERE is_total = 0
    )
"""
COUNTS_ON_SQLITE = (
    "DROP TRIGGER post_counts_fold",
    """
    INSERT INTO post_counts (user_id, tag_id, delta, is_total)
    SELECT user_id, tag_id, sum(delta), 1 FROM post_counts
    GROUP BY user_id, tag_id HAVING sum(delta) <> 0
    """,
    "DELETE FROM post_counts WHERE is_total = 0",
    f"""
    CREATE TRIGGER post_counts_fold AFTER INSERT ON post_counts
    WHEN new.is_total = 0 AND {IS_MERGING} BEGIN
        INSERT INTO post_counts (user_id, tag_id, delta, is_total)
        SELECT user_id, tag_id, sum(delta), 1 FROM post_counts WHERE {CHANGED_ON_SQLITE}
        GROUP BY user_id, tag_id HAVING sum(delta) <> 0;
        DELETE FROM post_counts WHERE {CHANGED_ON_SQLITE};
    END
    """,
)
COUNTS_ON_POSTGRES = (
    "DROP FUNCTION post_counts_fold CASCADE",
    FOLD_ON_POSTGRES,
    # One transaction at a time merges; a concurrent one skips it instead of waiting.
    f"""
    CREATE FUNCTION post_counts_fold() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF pg_try_advisory_xact_lock(6274104) THEN {FOLD_ON_POSTGRES} END IF;
        RETURN NULL;
    END
    $$
    """,
    f"""
    CREATE TRIGGER post_counts_fold AFTER INSERT ON post_counts FOR EACH ROW
    WHEN (NOT new.is_total AND {IS_MERGING}) EXECUTE FUNCTION post_counts_fold()
    """,
)

FORMER_FOLD_ON_SQLITE = (
    "DROP TRIGGER post_counts_fold",
    f"""
    CREATE TRIGGER post_counts_fold AFTER INSERT ON post_counts
    WHEN {IS_MERGING} BEGIN
        INSERT INTO post_counts (user_id, tag_id, delta)
        SELECT user_id, tag_id, sum(delta) FROM post_counts
        WHERE user_id = new.user_id AND tag_id = new.tag_id AND id <= new.id
        GROUP BY user_id, tag_id HAVING sum(delta) <> 0;
        DELETE FROM post_counts
        WHERE user_id = new.user_id AND tag_id = new.tag_id AND id <= new.id;
    END
    """,
)
FORMER_FOLD_ON_POSTGRES = (
    "DROP FUNCTION post_counts_fold CASCADE",
    """
    CREATE FUNCTION post_counts_fold() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF pg_try_advisory_xact_lock(6274104) THEN
            WITH folded AS (
                DELETE FROM post_counts
                WHERE user_id = new.user_id AND tag_id = new.tag_id AND id <= new.id
                RETURNING delta
            )
            INSERT INTO post_counts (user_id, tag_id, delta)
            SELECT new.user_id, new.tag_id, sum(delta) FROM folded HAVING sum(delta) <> 0;
        END IF;
        RETURN NULL;
    END
    $$
    """,
    f"""
    CREATE TRIGGER post_counts_fold AFTER INSERT ON post_counts FOR EACH ROW
    WHEN ({IS_MERGING}) EXECUTE FUNCTION post_counts_fold()
    """,
)


def is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def count_shared(text: str, other: str) -> int:
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, other, strict=False))
    )


def make_keys(name: str) -> list[tuple[str, int]]:
    """Return the folded name from each of its words on, and the length shared with the one before.

    A search by a prefix of that length or less finds the user by the key before.
    """
    text = unicodedata.normalize("NFKC", IGNORABLE_CHARACTERS.sub("", name))
    text = unicodedata.normalize("NFKC", text.casefold())
    text = " ".join(text.split())[:KEY_LENGTH]
    is_word = [unicodedata.category(character)[0] in "LMN" for character in text]
    starts = [n for n in range(len(text)) if n == 0 or (is_word[n] and not is_word[n - 1])]
    keys = sorted({text[start:] for start in starts})
    return [(key, count_shared(before, key)) for before, key in pairwise(["", *keys])]


def index_existing_names() -> None:
    connection = op.get_bind()
    query = sa.text("SELECT id, name FROM users WHERE id > :last ORDER BY id LIMIT :size")
    insert = sa.text(
        "INSERT INTO name_keys (user_id, key, shared_length) "
        "VALUES (:user_id, :key, :shared_length)"
    )
    last = 0
    while users := connection.execute(query, {"last": last, "size": BATCH_SIZE}).all():
        last = users[-1].id
        rows = [
            {"user_id": user.id, "key": key, "shared_length": shared_length}
            for user in users
            for key, shared_length in make_keys(user.name)
        ]
        connection.execute(insert, rows)


def upgrade() -> None:
    # Compared by code point, so that the keys with a prefix are a range of the index.
    key_type = sa.String(length=KEY_LENGTH).with_variant(
        sa.String(length=KEY_LENGTH, collation="C"), "postgresql"
    )
    op.create_table(
        "name_keys",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("key", key_type, nullable=False),
        sa.Column("shared_length", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_name_keys_user_id_users", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "key", name="pk_name_keys"),
    )
    op.create_index(
        "ix_name_keys_key_user_id_shared_length", "name_keys", ["key", "user_id", "shared_length"]
    )
    if not context.is_offline_mode():
        index_existing_names()
    op.add_column(
        "post_counts",
        sa.Column("is_total", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_index(
        "ix_post_counts_rank",
        "post_counts",
        [sa.text("delta DESC"), "tag_id"],
        sqlite_where=sa.text("is_total = 1 AND tag_id > 0"),
        postgresql_where=sa.text("is_total AND tag_id > 0"),
    )
    op.create_index(
        "ix_post_counts_pending",
        "post_counts",
        ["user_id", "tag_id"],
        sqlite_where=sa.text("is_total = 0"),
        postgresql_where=sa.text("NOT is_total"),
    )
    for statement in (
        (*NAME_KEYS_ON_SQLITE, *COUNTS_ON_SQLITE)
        if is_sqlite()
        else (*NAME_KEYS_ON_POSTGRES, *COUNTS_ON_POSTGRES)
    ):
        op.execute(statement)
    if not is_sqlite():
        # Otherwise the first searches are planned without statistics.
        op.execute("ANALYZE name_keys, post_counts")


def downgrade() -> None:
    for statement in (
        ("DROP TRIGGER name_keys_update", *FORMER_FOLD_ON_SQLITE)
        if is_sqlite()
        else ("DROP FUNCTION name_keys_update CASCADE", *FORMER_FOLD_ON_POSTGRES)
    ):
        op.execute(statement)
    for name in ("rank", "pending"):
        op.drop_index(f"ix_post_counts_{name}", "post_counts")
    op.drop_column("post_counts", "is_total")
    op.drop_table("name_keys")
