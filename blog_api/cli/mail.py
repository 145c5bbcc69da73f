"""The command `mail-test`."""

from typing import Annotated

import typer

from blog_api.cli.console import exit_with_error, run_async, validate_or_exit
from blog_api.core.fields import Email, RequestBody
from blog_api.core.settings import exit_with_errors, load_settings
from blog_api.mail.texts import Message
from blog_api.mail.transport import DeliveryFailed, create_transport


class Recipient(RequestBody):
    address: Email


def send_test_mail(
    address: Annotated[str, typer.Argument(help="Email address that gets the mail.")],
) -> None:
    """Send a test mail, and print what went wrong."""
    settings = load_settings()
    recipient = validate_or_exit(Recipient, address=address).address
    if settings.mail_url is None:
        exit_with_errors("BLOG_MAIL_URL: is not set")
    subject = f"{settings.title}: test"
    text = f"Mail of {settings.title} works.\n"
    try:
        run_async(create_transport(settings)(Message(recipient, subject, text)))
    except DeliveryFailed as failure:
        exit_with_error(f"BLOG_MAIL_URL: {failure}")
    print("Sent.")
