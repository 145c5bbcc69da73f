"""The command `blog-api`."""


def cli() -> None:
    # Not before: every process that renders runs this module again, to know what it is part of.
    from blog_api.cli.commands import cli

    cli()


if __name__ == "__main__":
    cli()
