"""Posts have a summary, a reading time, a cover, a canonical address and a slug of one's choice.

Revision 3c5e8fa20d71, 2026-11-29. Printed SQL (`--sql`) leaves the existing posts without summaries
and reading times, which are then made when they are read.
"""

import re
from hashlib import sha256
from html import unescape

import sqlalchemy as sa
from alembic import context, op

revision = "3c5e8fa20d71"
down_revision = "91b3e6c0d7f4"
branch_labels = None
depends_on = None

COLUMNS = (
    ("given_slug", sa.String(length=100)),
    ("cover_url", sa.String(length=2_048)),
    ("cover_alt", sa.String(length=300)),
    ("canonical_url", sa.String(length=2_048)),
    ("given_summary", sa.String(length=300)),
    ("made_summary", sa.String(length=300)),
    ("made_reading_minutes", sa.Integer()),
    ("made_from", sa.String(length=16)),
)

# The version before changes the HTML without these columns: what was made of the HTML is unknown
# then. This version changes `made_from`, the digest of the HTML, with it.
TRIGGERS_ON_SQLITE = (
    """
    CREATE TRIGGER posts_unmake AFTER UPDATE OF content_html ON posts
    WHEN new.content_html <> old.content_html AND new.made_from = old.made_from BEGIN
        UPDATE posts SET made_summary = NULL, made_reading_minutes = NULL, made_from = NULL
        WHERE id = new.id;
    END
    """,
)
TRIGGERS_ON_POSTGRES = (
    """
    CREATE FUNCTION posts_unmake() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        new.made_summary := NULL;
        new.made_reading_minutes := NULL;
        new.made_from := NULL;
        RETURN new;
    END
    $$
    """,
    """
    CREATE TRIGGER posts_unmake BEFORE UPDATE OF content_html ON posts FOR EACH ROW
    WHEN (new.made_from = old.made_from AND new.content_html <> old.content_html)
    EXECUTE FUNCTION posts_unmake()
    """,
)

# As in `blog_api.text.excerpts` at the time of this revision.
LENGTH = 300
WORDS_PER_MINUTE = 200
BATCH_SIZE = 100
TAG = re.compile(r'</?([a-z][a-z0-9]*)(?:\s[^<>"]*(?:"[^"]*"[^<>"]*)*)?>')
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")
INLINE_TAGS = frozenset({
    "a", "abbr", "acronym", "area", "b", "bdi", "bdo", "cite", "code", "data", "del", "dfn",
    "em", "i", "img", "ins", "kbd", "map", "mark", "q", "rp", "rt", "rtc", "ruby", "s", "samp",
    "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr",
})  # fmt: skip


def make_values(post_id: int, html: str) -> dict[str, object]:
    text = unescape(TAG.sub(lambda tag: "" if tag[1] in INLINE_TAGS else " ", html))
    words = text.split()
    count = sum(any(map(str.isalnum, word)) for word in words)
    text = " ".join(words)
    line = " ".join(CONTROL_CHARACTERS.sub(" ", text[: 2 * LENGTH]).split())
    if len(line) > LENGTH or len(text) > 2 * LENGTH:
        end = line.rfind(" ", 0, LENGTH)
        end = end if end >= LENGTH // 2 else min(LENGTH - 1, len(line))
        line = line[:end].rstrip() + "…"
    return {
        "id": post_id,
        "summary": line,
        "minutes": max(1, -(-count // WORDS_PER_MINUTE)),
        "digest": sha256(html.encode()).hexdigest()[:16],
    }


def make_excerpts() -> None:
    connection = op.get_bind()
    batch = sa.text(
        "SELECT id, content_html FROM posts WHERE id > :last AND content_html <> '' "
        "ORDER BY id LIMIT :size"
    )
    statement = sa.text(
        "UPDATE posts SET made_summary = :summary, made_reading_minutes = :minutes, "
        "made_from = :digest WHERE id = :id"
    )
    last = 0
    while rows := connection.execute(batch, {"last": last, "size": BATCH_SIZE}).all():
        connection.execute(statement, [make_values(post_id, html) for post_id, html in rows])
        last = rows[-1][0]


def is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def upgrade() -> None:
    for name, kind in COLUMNS:
        op.add_column("posts", sa.Column(name, kind, nullable=True))
    if context.is_offline_mode():
        op.execute("-- Existing posts: blog-api rebuild stores their summaries.")
    else:
        make_excerpts()
    for statement in TRIGGERS_ON_SQLITE if is_sqlite() else TRIGGERS_ON_POSTGRES:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TRIGGER posts_unmake" if is_sqlite() else "DROP FUNCTION posts_unmake CASCADE")
    for name, _ in reversed(COLUMNS):
        op.drop_column("posts", name)
