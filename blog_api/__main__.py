"""Entry point of the command `blog-api`."""

import signal


def cli() -> None:
    # Ctrl-C ends the process without a traceback while the commands are imported.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Worker processes of the renderer import this module: the commands would slow down their start.
    from blog_api.cli.commands import cli

    try:
        signal.signal(signal.SIGINT, interrupt)
        cli()
    except KeyboardInterrupt:
        # Before or after the command itself, which prints "Aborted!".
        raise SystemExit(128 + signal.SIGINT) from None


if __name__ == "__main__":
    cli()
