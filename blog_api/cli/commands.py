"""The commands of `blog-api`."""

from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from blog_api.cli.accounts import create_administrator, set_password
from blog_api.cli.demo import fill_with_demo
from blog_api.cli.mail import send_test_mail
from blog_api.cli.media import clean_media
from blog_api.cli.posts import export_archive, import_archive, render_posts
from blog_api.cli.serve import migrate_database, serve, show_settings


class ServeByDefault(TyperGroup):
    """`blog-api --port 9000` is `blog-api serve --port 9000`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own_options = (*ctx.help_option_names, "--version")
        if not args or (args[0].startswith("-") and args[0] not in own_options):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


cli = typer.Typer(
    cls=ServeByDefault,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def exit_with_version(is_given: bool) -> None:
    if is_given:
        typer.echo(f"blog-api {version('blog-api')}")
        raise typer.Exit


@cli.callback()
def blog_api(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=exit_with_version, is_eager=True
        ),
    ] = False,
) -> None:
    """A blog as a JSON API. Without a command it serves: blog-api --port 9000."""


cli.command("serve")(serve)
cli.command("migrate")(migrate_database)
cli.command("demo")(fill_with_demo)
cli.command("create-admin")(create_administrator)
cli.command("set-password")(set_password)
cli.command("import")(import_archive)
cli.command("export")(export_archive)
cli.command("render")(render_posts)
cli.command("mail-test")(send_test_mail)
cli.command("media-clean")(clean_media)
cli.command("settings")(show_settings)
