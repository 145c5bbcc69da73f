"""Commands for accounts: `create-admin` and `set-password`."""

from typing import Annotated

import typer

from blog_api.accounts.addresses import find_by_email
from blog_api.accounts.mailer import Mailer
from blog_api.accounts.models import User, UserBase, UserCreate
from blog_api.accounts.passwords import PasswordHasher
from blog_api.accounts.service import find_user
from blog_api.admin.service import create_admin, make_admin, set_user_password
from blog_api.cli.console import (
    YesOption,
    confirm,
    print_database,
    read_new_password,
    read_password,
    run_async,
    run_in_session,
    validate_or_exit,
)
from blog_api.core.fields import MAX_INT32, Email
from blog_api.core.settings import Settings, exit_with_errors, load_settings

EmailArgument = Annotated[str, typer.Argument(help="Email address to log in with.")]


class AccountArguments(UserBase):
    """Arguments, validated before the password is prompted for."""

    email: Email


def require_password(settings: Settings, user: User) -> None:
    """Exit with status 2 without the user's password: a stranger may have taken the address."""
    verification = PasswordHasher(settings).verify(read_password(is_new=False), user.password_hash)
    is_right, _ = run_async(verification)
    if not is_right:
        exit_with_errors("password: is not that of the account with this address")


def create_administrator(
    email: EmailArgument,
    name: Annotated[str, typer.Option(help="Name of a new account.")] = "Administrator",
    yes: YesOption = False,
) -> None:
    """Create an administrator, or make an existing user one.

    The password of the new or existing account is prompted for, or read from standard input.
    """
    settings = load_settings()
    email = validate_or_exit(AccountArguments, email=email, name=name).email
    print_database(settings)
    user = run_in_session(settings, lambda session: find_by_email(session, email))
    if user is None:
        password, password_hash = read_new_password(settings, name=name, email=email)
        new = validate_or_exit(UserCreate, email=email, name=name, password=password)
        user = run_in_session(settings, lambda session: create_admin(session, new, password_hash))
    elif not (user.is_admin and user.is_active):
        action = "Make them" if user.is_active else "Activate them, and make them"
        question = f"User {user.id}, {user.name}, has this address. {action} an administrator?"
        confirm(question, yes=yes)
        require_password(settings, user)
        user_id = user.id
        run_in_session(
            settings, lambda session: make_admin(session, Mailer(settings, session), user_id)
        )
    print(f"User {user.id} is an administrator.")


def set_password(
    user_id: Annotated[
        int, typer.Argument(metavar="ID", min=1, max=MAX_INT32, help="Id of the user.")
    ],
    email: EmailArgument,
    yes: YesOption = False,
) -> None:
    """Set the email address and the password of a user, such as an imported author.

    The password is prompted for, or read from standard input. All tokens of the user are revoked.
    """
    settings = load_settings()
    email = validate_or_exit(AccountArguments, email=email, name="-").email
    print_database(settings)
    user = run_in_session(settings, lambda session: find_user(session, user_id))
    if user.email is not None:
        confirm(f"User {user.id}, {user.name}, logs in as {user.email}. Change that?", yes=yes)
    _, password_hash = read_new_password(settings, name=user.name, email=email)
    run_in_session(
        settings, lambda session: set_user_password(session, user_id, email, password_hash)
    )
    print(f"User {user.id}, {user.name}, logs in as {email}.")
