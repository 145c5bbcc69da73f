"""One's own account: `/users/me`."""

from fastapi import APIRouter
from sqlalchemy import delete
from sqlmodel import Field, col

from blog_api.bookmarks import remove_bookmarks
from blog_api.comments import forget_comments
from blog_api.database import SessionDep, released
from blog_api.errors import (
    BODY_PROBLEMS,
    Conflict,
    ServiceUnavailable,
    ValidationFailed,
    field_missing,
    raises,
)
from blog_api.fields import SMALL_BODY_BYTES, Body, Email, Name, NewPassword, Password, fold
from blog_api.rate_limits import GuardDep
from blog_api.rows import flush
from blog_api.tokens import (
    CONFIRMED_PROBLEMS,
    USER_PROBLEMS,
    AccountReader,
    AccountWriter,
    confirm_password,
    delete_other_tokens,
    lock_access,
    verify_password,
)
from blog_api.users import (
    EmailTaken,
    LastAdmin,
    User,
    UserRead,
    UserRow,
    check_choice,
    keep_an_admin,
    lock_admins,
)

router = APIRouter(
    tags=["me"], responses=raises(ServiceUnavailable), max_body_size=SMALL_BODY_BYTES
)


class UserUpdate(Body):
    """What changes of an account; what is left out stays."""

    # Only what is sent is used; a factory keeps the default out of OpenAPI, where generated
    # clients would find and send it.
    name: Name = Field(default_factory=str)
    email: Email = Field(default_factory=str)
    current_password: Password | None = Field(
        default=None, description="Needed where the email address changes."
    )


class PasswordUpdate(Body):
    """Another password."""

    current_password: Password
    new_password: NewPassword


class PasswordConfirmation(Body):
    """The password, to confirm what cannot be undone."""

    current_password: Password


@router.get("/users/me", response_model=UserRead, responses=raises(*USER_PROBLEMS))
async def read_me(user: AccountReader) -> UserRow:
    """Show the account of the user who asks."""
    return user


@router.patch(
    "/users/me",
    response_model=UserRead,
    responses=raises(*CONFIRMED_PROBLEMS, *BODY_PROBLEMS, EmailTaken),
)
async def update_me(
    changes: UserUpdate, access: AccountWriter, session: SessionDep, guard: GuardDep
) -> User:
    """Change the name, or, with the current password, the email address."""
    values = changes.model_dump(exclude_unset=True, exclude={"current_password"})
    if "email" in values:
        if changes.current_password is None:
            raise ValidationFailed([field_missing("body", "current_password")])
        async with released(session):
            # Or it would tell of any number of addresses whether they have an account.
            await guard.count_address()
        user = await confirm_password(session, guard, access, changes.current_password)
        user.email_key = fold(changes.email)
    else:
        user = await lock_access(session, access)
    user.sqlmodel_update(values)
    await flush(session, or_raise=EmailTaken)
    return user


@router.put(
    "/users/me/password", status_code=204, responses=raises(*CONFIRMED_PROBLEMS, *BODY_PROBLEMS)
)
async def change_password(
    change: PasswordUpdate, access: AccountWriter, session: SessionDep, guard: GuardDep
) -> None:
    """Choose another password. All tokens but the one presented are revoked."""
    check_choice(guard.passwords, change.new_password, field="new_password")
    verified = await verify_password(session, guard, access.user, change.current_password)
    async with released(session):
        new_hash = await guard.hash(change.new_password)
    user = await lock_access(session, access, verified)
    user.password_hash = new_hash
    await delete_other_tokens(session, access)


@router.delete(
    "/users/me", status_code=204, responses=raises(*CONFIRMED_PROBLEMS, *BODY_PROBLEMS, LastAdmin)
)
async def delete_me(
    confirmation: PasswordConfirmation, access: AccountWriter, session: SessionDep, guard: GuardDep
) -> None:
    """Close the account. Its posts go with it; its comments stay, with no text and no name."""
    asking = access.user
    verified = await verify_password(session, guard, asking, confirmation.current_password)
    # Before their own row: two administrators who leave at once would wait for each other.
    admins = await lock_admins(session, and_user=asking.id) if asking.is_admin else ()
    user = await lock_access(session, access, verified)
    if user.is_admin and not admins:
        # Made one meanwhile.
        raise Conflict
    keep_an_admin(admins, without=user)
    await forget_comments(session, user)
    await remove_bookmarks(session, user.id)
    await session.exec(delete(User).where(col(User.id) == user.id))
