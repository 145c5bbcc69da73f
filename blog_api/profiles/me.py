"""One's own account: `/users/me`."""

from fastapi import APIRouter

from blog_api.accounts.auth import (
    AccountReader,
    AccountWriter,
    confirm_password,
    delete_other_tokens,
    lock_access,
    verify_password,
)
from blog_api.accounts.errors import CONFIRMED_PROBLEMS, USER_PROBLEMS, EmailTaken
from blog_api.accounts.models import PasswordUpdate, User, UserRead, UserRow, UserUpdate
from blog_api.accounts.passwords import check_choice
from blog_api.accounts.rate_limits import GuardDep
from blog_api.core.errors import (
    BODY_PROBLEMS,
    ServiceUnavailable,
    ValidationFailed,
    field_missing,
    raises,
)
from blog_api.core.fields import SMALL_BODY_BYTES, fold
from blog_api.db.queries import flush
from blog_api.db.session import SessionDep, released

router = APIRouter(
    tags=["me"], responses=raises(ServiceUnavailable), max_body_size=SMALL_BODY_BYTES
)


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
