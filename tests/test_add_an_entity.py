"""The guide's page "Add an entity", executed on a copy of the source tree."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import blog_api
from tests.support.databases import TEST_DATABASE_URL

PACKAGE = Path(blog_api.__file__).parent
PROJECT = PACKAGE.parent
PAGE = PACKAGE / "web" / "guide" / "add-an-entity.md"
COPIED = ("blog_api", "migrations", "tests", "README.md", "alembic.ini", "pyproject.toml")
# The first comment of a block: a new file, or a line of an existing one to edit.
BLOCK = re.compile(
    r"^```(?:markdown|python|toml)\n# (\S+?)(?:, (below|instead of): ([^\n]+))?\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def copy_project(target: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, target / name, ignore=ignored)
        else:
            shutil.copy(PROJECT / name, target / name)


def edit(file: Path, how: str, anchor: str, text: str) -> None:
    """Insert text below the one line that equals the anchor, or replace that line."""
    lines = file.read_text().splitlines(keepends=True)
    (place,) = [number for number, line in enumerate(lines) if line.strip() == anchor.strip()]
    lines[place] = lines[place] + text if how == "below" else text
    file.write_text("".join(lines))


def apply_page(target: Path) -> None:
    """Write the files of the page, and make its changes to existing ones."""
    for path, how, anchor, text in BLOCK.findall(PAGE.read_text()):
        file = target / path
        if how:
            edit(file, how, anchor, text)
        else:
            file.parent.mkdir(exist_ok=True)
            assert not file.exists(), path
            file.write_text(text)


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.commands
def test_the_example_works_on_a_copy_of_the_tree(tmp_path: Path):
    if TEST_DATABASE_URL is not None:
        pytest.skip("The copy's tests run on SQLite in memory")
    copy_project(tmp_path)

    apply_page(tmp_path)
    tests = run(
        tmp_path, "pytest", "-n", "0", "-q", "tests/test_series.py", "tests/test_structure.py"
    )
    style = run(tmp_path, "ruff", "check", "blog_api", "tests/test_series.py", "migrations")

    assert " passed" in tests
    assert "All checks passed" in style
