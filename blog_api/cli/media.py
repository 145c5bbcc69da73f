"""The command `media-clean`."""

from blog_api.cli.console import (
    YesOption,
    confirm,
    print_database,
    progress,
    run_with_database,
)
from blog_api.core.settings import exit_with_errors, load_settings
from blog_api.db.session import Database
from blog_api.media.service import ORPHAN_SECONDS, find_unused_files, remove_unused_files
from blog_api.media.storage import open_storage
from blog_api.media.uploads import remove_abandoned_folders


def clean_media(yes: YesOption = False) -> None:
    """Delete the files of pictures that no user has, if they are older than a day.

    They are left by an upload or a deletion that was interrupted; so are folders in the system's
    temporary folder.
    """
    settings = load_settings()
    print_database(settings)
    with open_storage(settings) as opened:
        if opened is None:
            exit_with_errors("BLOG_MEDIA_URL: is not set")
        storage = opened
        names = run_with_database(settings, lambda database: find_unused_files(database, storage))
        if names:
            confirm(f"Delete {len(names)} files that no user has?", yes=yes)

        async def remove(database: Database) -> int:
            removed = 0
            with progress("media-clean", len(names)) as advance:
                for name in names:
                    removed += await remove_unused_files(database, storage, [name])
                    advance()
            return removed

        removed = run_with_database(settings, remove)
    folders = remove_abandoned_folders(ORPHAN_SECONDS)
    print(f"{removed} files and {folders} temporary folders deleted.")
