"""Accounts and numbers: `/admin/users`, `/admin/stats`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy import func
from sqlmodel import Field, col, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.accounts.addresses import mailbox_key
from blog_api.accounts.auth import Admin, AdminAuth, connection_released_for
from blog_api.accounts.bans import BansDep
from blog_api.accounts.errors import (
    SCOPE_PROBLEMS,
    EmailBanned,
    EmailTaken,
    LastAdmin,
    UsernameTaken,
    UserNotFound,
)
from blog_api.accounts.idempotency import IDEMPOTENCY_PROBLEMS, AdminCreationDep, IdempotentRoute
from blog_api.accounts.mailer import MailerDep
from blog_api.accounts.models import NameKey, User, UserRead
from blog_api.accounts.names import find_keys, fold_name
from blog_api.accounts.passwords import check_new_password
from blog_api.accounts.rate_limits import LoginThrottleDep
from blog_api.accounts.service import require_other_admin
from blog_api.accounts.write_limits import limit_accounts
from blog_api.admin.models import (
    AccountCreate,
    AccountPage,
    AccountUpdate,
    PostState,
    PostStats,
    Stats,
    UserStats,
)
from blog_api.admin.moderation import STATE_CONDITIONS
from blog_api.admin.service import lock_account, open_account, update_flags
from blog_api.core.errors import (
    BODY_PROBLEMS,
    FieldError,
    ServiceUnavailable,
    TooManyRequests,
    ValidationFailed,
    problem_responses,
)
from blog_api.core.fields import MAX_SMALL_BODY_BYTES, PathId, SearchText, casefold_key
from blog_api.db.list_query import ListQuery, Sort
from blog_api.db.session import SessionDep
from blog_api.posts.models import Post
from blog_api.profiles.users import UserFromPath
from blog_api.web.conditional import PreconditionDep, PreconditionFailed, set_etag_row
from blog_api.web.pagination import Page, PageQuery, PaginatorDep

router = APIRouter(
    prefix="/admin",
    tags=["admin"],
    responses=problem_responses(ServiceUnavailable, *SCOPE_PROBLEMS),
    max_body_size=MAX_SMALL_BODY_BYTES,
    route_class=IdempotentRoute,
)


NO_PASSWORD = FieldError(
    loc=["body", "password"],
    type="missing",
    msg="Field required: this service sends no mail by which the user could choose a password",
)


class AccountQuery(PageQuery):
    q: SearchText | None = Field(
        default=None, description="Part of the email address or the name, case-insensitive."
    )


def search_accounts(q: str | None) -> SelectOfScalar[User]:
    """Select the accounts whose email address or name contains a text."""
    query = select(User)
    if q is None:
        return query
    by_name = select(NameKey.user_id).where(find_keys(fold_name(q)))
    return query.where(
        or_(
            col(User.id).in_(by_name),
            col(User.email_key).contains(casefold_key(q), autoescape=True),
            col(User.mailbox_key).contains(mailbox_key(q), autoescape=True),
            col(User.name).icontains(q, autoescape=True),
        )
    )


BY_ID = Sort("id", (col(User.id),))


@router.get("/users", response_model=AccountPage, responses=problem_responses(ValidationFailed))
async def list_accounts(
    _: Admin, query: Annotated[AccountQuery, Query()], paginator: PaginatorDep
) -> Page[User]:
    """List all accounts, or those whose email address or name contains a text."""
    return await paginator.paginate(ListQuery(search_accounts(query.q)), query, BY_ID)


@router.post(
    "/users",
    status_code=201,
    response_model=UserRead,
    responses=problem_responses(
        *BODY_PROBLEMS,
        *SCOPE_PROBLEMS,
        *IDEMPOTENCY_PROBLEMS,
        EmailBanned,
        EmailTaken,
        UsernameTaken,
        TooManyRequests,
    ),
    dependencies=[Depends(limit_accounts)],
)
async def create_account(
    new: AccountCreate,
    auth: AdminAuth,
    creation: AdminCreationDep,
    session: SessionDep,
    throttle: LoginThrottleDep,
    mailer: MailerDep,
    bans: BansDep,
    request: Request,
) -> User:
    """Open an account for somebody, also while sign-up is closed.

    Without `password`, a code is mailed to the address, in the language of this request. It sets a
    password by `POST /password-resets/confirm`.
    """
    await creation.replay()
    password_hash = None
    if new.password is not None:
        check_new_password(
            throttle.passwords, new.password, name=new.name, email=new.email, field="password"
        )
        async with connection_released_for(session, auth):
            password_hash = await throttle.hash_password(new.password)
    elif not mailer.is_configured:
        raise ValidationFailed([NO_PASSWORD])
    await creation.claim()
    user = await open_account(session, mailer, bans, auth.user, new, password_hash)
    set_etag_row(request, user)
    return user


@router.get(
    "/users/{user_id:int}",
    response_model=UserRead,
    responses=problem_responses(UserNotFound, ValidationFailed),
)
async def read_account(_: Admin, user: UserFromPath, request: Request) -> User:
    """Return an account."""
    set_etag_row(request, user)
    return user


@router.patch(
    "/users/{user_id:int}",
    response_model=UserRead,
    # With the router's problems: a status listed here replaces that of the router.
    responses=problem_responses(
        *BODY_PROBLEMS, *SCOPE_PROBLEMS, UserNotFound, LastAdmin, PreconditionFailed
    ),
)
async def update_account(
    changes: AccountUpdate,
    admin: Admin,
    user_id: PathId,
    precondition: PreconditionDep,
    session: SessionDep,
    mailer: MailerDep,
    request: Request,
) -> User:
    """Activate or deactivate an account; grant or withdraw administration and authorship.

    Deactivation revokes all tokens of the user, for good; withdrawing administration revokes those
    with the scope `admin`.
    """
    values = changes.model_dump(exclude_unset=True)
    user, users = await lock_account(session, admin, user_id)
    precondition.check(user)
    if False in (values.get("is_active"), values.get("is_admin")):
        require_other_admin(users, without=user)
    await update_flags(session, mailer, admin, user, values)
    await session.flush()
    set_etag_row(request, user)
    return user


@router.get("/stats")
async def read_stats(_: Admin, session: SessionDep) -> Stats:
    """Return the numbers of users and posts."""
    count = func.count()
    is_active = col(User.is_active)
    total, active, admins = (
        await session.exec(
            select(
                count,
                count.filter(is_active),
                count.filter(is_active, col(User.is_admin)),
            ).select_from(User)
        )
    ).one()
    draft, scheduled, published, taken_down = (
        await session.exec(
            select(
                count.filter(STATE_CONDITIONS[PostState.draft]),
                count.filter(STATE_CONDITIONS[PostState.scheduled]),
                count.filter(STATE_CONDITIONS[PostState.published]),
                count.filter(STATE_CONDITIONS[PostState.taken_down]),
            ).select_from(Post)
        )
    ).one()
    return Stats(
        users=UserStats(total=total, active=active, admins=admins),
        posts=PostStats(
            draft=draft, scheduled=scheduled, published=published, taken_down=taken_down
        ),
    )
