"""Settings of a folder of a static site generator that apply to all posts in it."""

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from blog_api.text.encodings import read_text
from blog_api.text.front_matter import fold_keys, split_front_matter
from blog_api.text.front_matter_fields import KNOWN_KEYS
from blog_api.text.front_matter_values import InvalidFrontMatter
from blog_api.text.front_matter_visibility import HIDING_KEYS, hides
from blog_api.text.site_files import SUFFIXES
from blog_api.text.strict_json import parse_object

# Eleventy's data files, after the name of the folder. Those in JavaScript are not executed.
DATA_SUFFIXES = (".json", ".11tydata.json")


@lru_cache
def is_hidden_section(folder: Path) -> bool:
    """Tell whether the settings of a folder hide its posts, or cannot be read."""
    try:
        return any(map(hides, read_settings(folder)))
    except InvalidFrontMatter:
        return True


def read_settings(folder: Path) -> Iterator[object]:
    """Yield what the posts of a folder inherit. Raises InvalidFrontMatter.

    These are Hugo's `cascade` and Zola's `draft` in a section page, and Eleventy's data.
    """
    for path in folder.glob("_index.*"):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            values = fold_keys(split_front_matter(read_text(path)[0], KNOWN_KEYS).values)
            yield [values.get("cascade"), {"draft": values.get("draft")}]
    for path in (folder / f"{folder.name}{suffix}" for suffix in DATA_SUFFIXES):
        if path.is_file():
            # What cannot be read may be a file of another program.
            with suppress(ValueError, InvalidFrontMatter):
                values = fold_keys(parse_object(read_text(path)[0]))
                # Not the times, which can be words such as `git Last Modified`.
                yield {key: value for key, value in values.items() if key in HIDING_KEYS}
