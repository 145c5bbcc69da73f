"""Where a user is logged in: `/users/me/sessions`."""

from fastapi import APIRouter, Request
from sqlalchemy import delete
from sqlmodel import col
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.accounts.auth import (
    UNEXPIRED_TOKENS,
    Auth,
    CanReadAccount,
    CanWriteAccount,
    lock_authenticated_user,
)
from blog_api.accounts.errors import SCOPE_PROBLEMS, SessionNotFound
from blog_api.accounts.models import SessionPage, SessionRead, Token
from blog_api.core.errors import Conflict, ServiceUnavailable, ValidationFailed, problem_responses
from blog_api.core.fields import PathId, utc_now
from blog_api.db.list_query import ListQuery, Sort
from blog_api.db.session import SessionDep
from blog_api.web.pagination import Page, PageParams, PaginatorDep

router = APIRouter(
    prefix="/users/me/sessions",
    tags=["sessions"],
    responses=problem_responses(ServiceUnavailable),
)

NEWEST_FIRST = Sort("-id", (col(Token.id),), is_descending=True)
IS_SESSION = col(Token.name).is_(None)


def sessions_of(auth: Auth) -> SelectOfScalar[Token]:
    """Select the unexpired sessions of a user."""
    return UNEXPIRED_TOKENS.where(col(Token.user_id) == auth.user.id, IS_SESSION)


@router.get(
    "", response_model=SessionPage, responses=problem_responses(*SCOPE_PROBLEMS, ValidationFailed)
)
async def list_sessions(
    auth: CanReadAccount, params: PageParams, paginator: PaginatorDep
) -> Page[SessionRead]:
    """List where the user is logged in, newest log-in first."""
    page: Page[Token] = await paginator.paginate(ListQuery(sessions_of(auth)), params, NEWEST_FIRST)

    def show(token: Token) -> SessionRead:
        is_current = token.id == auth.token_id
        used_now = {"last_used_at": utc_now()} if is_current else {}
        return SessionRead.model_validate(token, update={"is_current": is_current, **used_now})

    return page.map(show)


@router.delete(
    "", status_code=204, responses=problem_responses(*SCOPE_PROBLEMS, Conflict, SessionNotFound)
)
async def end_other_sessions(auth: CanWriteAccount, session: SessionDep, request: Request) -> None:
    """Log out everywhere else: end all sessions but that of this request.

    Personal tokens stay; `DELETE /users/me/tokens` revokes them too.
    """
    if request.state.slash_at_end:
        # `/users/me/sessions/` is most likely a single session whose id is missing.
        raise SessionNotFound
    await lock_authenticated_user(session, auth)
    others = (col(Token.user_id) == auth.user.id, IS_SESSION, col(Token.id) != auth.token_id)
    await session.exec(delete(Token).where(*others))


@router.delete(
    "/{session_id:int}",
    status_code=204,
    responses=problem_responses(*SCOPE_PROBLEMS, Conflict, SessionNotFound, ValidationFailed),
)
async def end_session(session_id: PathId, auth: CanWriteAccount, session: SessionDep) -> None:
    """End a session: its tokens are revoked."""
    found = await session.exec(sessions_of(auth).where(col(Token.id) == session_id))
    token = found.first()
    if token is None:
        raise SessionNotFound
    await session.delete(token)
