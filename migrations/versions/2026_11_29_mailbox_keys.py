"""A key of mailboxes: domains of email addresses are compared as A-labels (IDNA 2008).

Revision c7f2093ad61b, 2026-11-29. Printed SQL (`--sql`) fills the keys of ASCII addresses only;
the program computes the others when it looks up an address.
"""

import logging
import unicodedata

import idna
import sqlalchemy as sa
from alembic import context, op

revision = "c7f2093ad61b"
down_revision = "f2b86d4c9a17"
branch_labels = None
depends_on = None

log = logging.getLogger("blog_api.migrations")

BATCH_SIZE = 1000
HAS_KEY = "mailbox_key IS NOT NULL"
LACKS_KEY = "mailbox_key IS NULL AND email IS NOT NULL"

IS_ASCII = {
    "postgresql": "octet_length(email) = length(email)",
    "sqlite": "length(CAST(email AS BLOB)) = length(email)",
}
FILL_ASCII = "UPDATE users SET mailbox_key = email_key WHERE email_key = lower(email) AND {}"

# The version before changes an address without its key.
IS_STALE = "OLD.email <> NEW.email AND OLD.mailbox_key = NEW.mailbox_key"
TRIGGERS = {
    "postgresql": (
        """
        CREATE FUNCTION clear_mailbox_key() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.mailbox_key := NULL;
            RETURN NEW;
        END
        $$
        """,
        f"""
        CREATE TRIGGER clear_mailbox_key BEFORE UPDATE OF email ON users
        FOR EACH ROW WHEN ({IS_STALE}) EXECUTE FUNCTION clear_mailbox_key()
        """,
    ),
    "sqlite": (
        f"""
        CREATE TRIGGER clear_mailbox_key AFTER UPDATE OF email ON users
        WHEN {IS_STALE} BEGIN
            UPDATE users SET mailbox_key = NULL WHERE id = NEW.id;
        END
        """,
    ),
}
DROP_TRIGGERS = {
    "postgresql": "DROP FUNCTION clear_mailbox_key CASCADE",
    "sqlite": "DROP TRIGGER clear_mailbox_key",
}


def casefold(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def make_key(address: str) -> str:
    local_part, at, domain = address.rpartition("@")
    try:
        labels = idna.uts46_remap(domain, std3_rules=False, transitional=False).split(".")
        domain = ".".join(one if one.isascii() else idna.alabel(one).decode() for one in labels)
    except idna.IDNAError:
        domain = casefold(domain)
    return casefold(local_part) + at + domain


def fill_keys(connection: sa.Connection) -> None:
    """Fill the keys in the order of ids. The later one of two accounts has none."""
    last_id = 0
    query = f"SELECT id, email FROM users WHERE id > :last_id AND {LACKS_KEY} ORDER BY id LIMIT :n"
    while True:
        values = {"last_id": last_id, "n": BATCH_SIZE}
        users = connection.execute(sa.text(query), values).all()
        if not users:
            return
        for user_id, address in users:
            values = {"id": user_id, "key": make_key(address)}
            holder = sa.text("SELECT id FROM users WHERE mailbox_key = :key")
            holder_id = connection.scalar(holder, values)
            if holder_id is None:
                update = sa.text("UPDATE users SET mailbox_key = :key WHERE id = :id")
                connection.execute(update, values)
            else:
                log.warning(
                    "Users %s and %s have the same mailbox: "
                    "each logs in by the spelling of its own address",
                    *sorted((holder_id, user_id)),
                )
        last_id = users[-1].id


def create_index(name: str, column: str, where: str, *, unique: bool = False) -> None:
    op.create_index(
        f"ix_users_{name}",
        "users",
        [column],
        unique=unique,
        postgresql_where=sa.text(where),
        sqlite_where=sa.text(where),
    )


def upgrade() -> None:
    dialect = op.get_context().dialect.name
    op.add_column("users", sa.Column("mailbox_key", sa.String(length=508), nullable=True))
    op.execute(FILL_ASCII.format(IS_ASCII[dialect]))
    create_index("mailbox_key", "mailbox_key", HAS_KEY, unique=True)
    if not context.is_offline_mode():
        fill_keys(op.get_bind())
    create_index("id_without_mailbox_key", "id", LACKS_KEY)
    for statement in TRIGGERS[dialect]:
        op.execute(statement)


def downgrade() -> None:
    op.execute(DROP_TRIGGERS[op.get_context().dialect.name])
    # `faß.example` and `fass.example` had one key: the second account cannot log in any more.
    op.execute(
        "UPDATE users SET email_key = 'mailbox-' || id || '@invalid' "
        "WHERE email_key IS NULL AND email IS NOT NULL"
    )
    op.drop_index("ix_users_id_without_mailbox_key", "users")
    op.drop_index("ix_users_mailbox_key", "users")
    op.drop_column("users", "mailbox_key")
