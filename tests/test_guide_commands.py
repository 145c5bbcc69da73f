"""The shell commands of README and guide, run in order against a real server."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

import blog_api
from tests.support.databases import TEST_DATABASE_URL
from tests.support.processes import Server

PACKAGE = Path(blog_api.__file__).parent
README = PACKAGE.parent / "README.md"
GUIDE = PACKAGE / "web" / "guide"
# Each page needs the account of the README, and the last ones the administrator.
PAGES = (
    README,
    *(
        GUIDE / f"{name}.md"
        for name in (
            "use-the-api", "front-end", "retry-safely", "tokens-and-scopes", "mail", "media",
            "configure", "administrate", "comments", "import-and-export", "deploy",
        )
    ),
)  # fmt: skip

# Run by test_operators_day.py, which also loses what has to be restored.
OPERATIONS = ("back-up", "failover", "upgrade")

SHELL_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Blocks that cannot run here, by what they contain.
NOT_RUN = {
    "-m venv": "creates an environment and downloads packages",
    "pip install": "downloads packages",
    "createdb": "needs a Postgres server, and serves until it is stopped",
    "BLOG_SECRET_KEY_PREVIOUS": "reloads a service with several workers, see test_operators_day.py",
    "docker": "needs Docker and downloads images",
    ".venv/bin/alembic": "works on a source tree with an entity that is not there",
    "tests/test_series.py": "is run on a copy of the tree, see test_add_an_entity.py",
    "python -m tests.load": "is the benchmark",
    "http.server": "serves until it is stopped",
}

# What the output of a page's commands contains.
EXPECTED = {
    "README": ["Created 3 users, ", '"slug":"hello-world"', '"total_count":1', "<em>first</em>"],
    "use-the-api": [
        '"email":"ann@example.com"', '"slug":"on-rivers"', "<mark>sea</mark>", "jsonfeed.org",
        '"content":"Well said."', 'rel="next"', '"next_cursor":null', "\n304\n", "\n200\n",
        "urn:blog-api:precondition-failed",
    ],
    "front-end": [
        '"content":null', '"reading_minutes":1', '"content_html":"<p>', '"answers":[',
        '"slug":"on-front-ends"', '"total_count":0', "\n202\n", '"is_current":true', "\n204\n",
        '"avatar_url":"/media/',
    ],
    "retry-safely": [
        "idempotency-replayed: true", "urn:blog-api:idempotency-key-reused", '"slug":"on-curl"',
    ],
    "tokens-and-scopes": [
        '"scopes":["posts:read"]', '"is_current":true', "Invalid authentication credentials",
    ],
    "mail": ["\n202\n"],
    "media": ['"alt":"A teal rectangle"', "0 files and "],
    "configure": ["BLOG_POOL_SIZE=5", "BLOG_SECRET_KEY=***", '"player.vimeo.com"]'],
    "administrate": ['"users":{"total":2', "urn:blog-api:post-not-found", "take-down-post"],
    "comments": ['"is_approved":false', "urn:blog-api:comment-not-found", '"is_approved":true'],
    "import-and-export": [
        '"email":"bob@example.com"', '"slug":"a-walk"', '"cover_url":"/media/', '"type":"media"'
    ],
    "deploy": ['{"status":"ok"}', " rows copied.", "search: 0 wrong"],
}  # fmt: skip


def shell_blocks(page: Path) -> Iterator[str]:
    for block in SHELL_BLOCK.findall(page.read_text()):
        if not any(words in block for words in NOT_RUN):
            yield block


def run_blocks(page: Path, server: Server) -> str:
    """Run all blocks of a page in one shell, as if pasted, and return what they print."""
    script = "\n".join(shell_blocks(page))
    script = script.replace("http://127.0.0.1:8000", server.address)
    script = script.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    script = script.replace("| python3 ", f"| {sys.executable} ")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=server.folder,
        env=server.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{page.name}: {done.stdout}{done.stderr}"
    return f"\n{done.stdout}\n"


@pytest.mark.commands
def test_the_commands_work_when_pasted(tmp_path: Path):
    if TEST_DATABASE_URL is not None:
        pytest.skip("The commands use the SQLite file blog.db")

    with Server(tmp_path, make_url("sqlite:///blog.db")) as server:
        output = {page.stem: run_blocks(page, server) for page in PAGES}

    for page, expected in EXPECTED.items():
        for text in expected:
            assert text in output[page], f"{page}: {text}\n{output[page]}"
    assert (tmp_path / "posts.jsonl").read_text().count('"slug": "hello-world"') == 1


def test_every_block_is_run_or_has_a_reason():
    """A page that is not listed has no block that could run."""
    others = [
        page for page in GUIDE.glob("*.md") if page not in PAGES and page.stem not in OPERATIONS
    ]
    texts = [page.read_text() for page in (*PAGES, *others)]
    blocks = [block for text in texts for block in SHELL_BLOCK.findall(text)]

    assert EXPECTED.keys() == {page.stem for page in PAGES}
    for page in PAGES:
        assert list(shell_blocks(page)), page.name
    for page in others:
        assert list(shell_blocks(page)) == [], page.name
    for words in NOT_RUN:
        assert any(words in block for block in blocks), words
