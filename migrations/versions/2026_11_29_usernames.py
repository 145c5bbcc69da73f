"""Usernames, biographies and pictures of users.

Revision 91b3e6c0d7f4, 2026-11-29. Printed SQL (`--sql`) gives existing users random usernames; the
migration of a database makes them from the names.
"""

import secrets
import string

import sqlalchemy as sa
from alembic import context, op
from slugify import slugify

revision = "91b3e6c0d7f4"
down_revision = "e41a7c95d308"
branch_labels = None
depends_on = None

BATCH_SIZE = 1000
MAX_LENGTH = 30
# What the program refuses; its list may change later, this one not.
RESERVED_WORDS = """
    abuse account accounts admin administrator admins anonymous api archive auth author authors blog
    bookmarks comments config contact dashboard deleted docs drafts email everyone feed feeds follow
    followers following guest guide health help home hostmaster index info legal list lists live
    login logout mail media mention moderator moderators news nobody noreply null oauth oauth2
    openapi operator owner password post postmaster posts preview privacy profile profiles public
    ready redoc register root rss search security self settings sign-in sign-up signin signup site
    staff static status support system tag tags team terms test token tokens undefined unknown user
    username usernames users webmaster www you
"""
RESERVED = frozenset(RESERVED_WORDS.split())

LETTERS = range(10)
RANDOM_ON_SQLITE = "'user-' || " + " || ".join("char(97 + abs(random() % 26))" for _ in LETTERS)
RANDOM_ON_POSTGRES = "'user-' || " + " || ".join(
    "chr(97 + floor(random() * 26)::integer)" for _ in LETTERS
)

# The version before inserts users without a username.
TRIGGERS_ON_SQLITE = (
    f"""
    CREATE TRIGGER users_username AFTER INSERT ON users WHEN NEW.username IS NULL BEGIN
        UPDATE users SET username = {RANDOM_ON_SQLITE} WHERE id = NEW.id;
        INSERT INTO usernames (username, user_id) SELECT username, id FROM users WHERE id = NEW.id;
    END
    """,
)
TRIGGERS_ON_POSTGRES = (
    f"""
    CREATE FUNCTION users_username() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE users SET username = {RANDOM_ON_POSTGRES} WHERE id = NEW.id;
        INSERT INTO usernames (username, user_id) SELECT username, id FROM users WHERE id = NEW.id;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER users_username AFTER INSERT ON users
    FOR EACH ROW WHEN (NEW.username IS NULL) EXECUTE FUNCTION users_username()
    """,
)


def is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def make_username(name: str, taken: set[str]) -> str:
    """Return a username made from a name, with random letters if it is taken."""
    base = slugify(name, max_length=MAX_LENGTH - 5, word_boundary=True)
    is_usable = len(base) >= 3 and base[0] in string.ascii_letters
    username, base, length = (base, base, 4) if is_usable else ("", "user", 10)
    while not username or username in taken or username in RESERVED:
        letters = (secrets.choice(string.ascii_lowercase) for _ in range(length))
        username = f"{base}-{''.join(letters)}"
    taken.add(username)
    return username


def name_existing_users(connection: sa.Connection) -> None:
    taken: set[str] = set()
    last_id = 0
    query = sa.text("SELECT id, name FROM users WHERE id > :last_id ORDER BY id LIMIT :n")
    while users := connection.execute(query, {"last_id": last_id, "n": BATCH_SIZE}).all():
        rows = [{"id": user_id, "username": make_username(name, taken)} for user_id, name in users]
        connection.execute(sa.text("UPDATE users SET username = :username WHERE id = :id"), rows)
        last_id = users[-1].id


def upgrade() -> None:
    op.add_column("users", sa.Column("username", sa.String(MAX_LENGTH), nullable=True))
    op.add_column("users", sa.Column("bio", sa.String(1000), nullable=True))
    op.add_column("users", sa.Column("avatar_url", sa.String(2048), nullable=True))
    op.create_table(
        "usernames",
        sa.Column("username", sa.String(MAX_LENGTH), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_usernames_user_id_users", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("username", name="pk_usernames"),
    )
    if context.is_offline_mode():
        random = RANDOM_ON_SQLITE if is_sqlite() else RANDOM_ON_POSTGRES
        op.execute(sa.text(f"UPDATE users SET username = {random}".replace(":", r"\:")))
    else:
        name_existing_users(op.get_bind())
    op.execute("INSERT INTO usernames (username, user_id) SELECT username, id FROM users")
    op.create_index("ix_usernames_user_id", "usernames", ["user_id"])
    op.create_index("ix_users_username", "users", ["username"], unique=True)
    for statement in TRIGGERS_ON_SQLITE if is_sqlite() else TRIGGERS_ON_POSTGRES:
        op.execute(sa.text(statement.replace(":", r"\:")))


def downgrade() -> None:
    if is_sqlite():
        op.execute("DROP TRIGGER users_username")
    else:
        op.execute("DROP FUNCTION users_username CASCADE")
    op.drop_table("usernames")
    op.drop_index("ix_users_username", "users")
    for name in ("avatar_url", "bio", "username"):
        op.drop_column("users", name)
