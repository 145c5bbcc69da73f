"""Entry point of the command `blog-api`."""


def cli() -> None:
    # Worker processes of the renderer import this module: the commands would slow down their start.
    from blog_api.cli.commands import cli

    cli()


if __name__ == "__main__":
    cli()
