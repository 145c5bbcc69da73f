"""Deletion of accounts, and bans that outlive them: `/admin/users/{user_id}`, `/admin/bans`."""

from fastapi import APIRouter, Request

from blog_api.accounts.auth import Admin
from blog_api.accounts.bans import BansDep
from blog_api.accounts.errors import SCOPE_PROBLEMS, UserNotFound
from blog_api.admin.audit import record_audit_entry
from blog_api.admin.errors import BanNotFound, CannotDeleteSelf
from blog_api.admin.models import AuditAction, BanLift
from blog_api.admin.service import lock_account
from blog_api.core.errors import (
    BODY_PROBLEMS,
    Conflict,
    ServiceUnavailable,
    ValidationFailed,
    problem_responses,
)
from blog_api.core.fields import MAX_SMALL_BODY_BYTES, PathId
from blog_api.db.session import SessionDep
from blog_api.media.storage import Storage
from blog_api.personal_data import erase_account, erase_in_batches
from blog_api.web.conditional import PreconditionDep, PreconditionFailed

router = APIRouter(
    prefix="/admin",
    tags=["admin"],
    responses=problem_responses(ServiceUnavailable, *SCOPE_PROBLEMS),
    max_body_size=MAX_SMALL_BODY_BYTES,
)


@router.delete(
    "/users/{user_id:int}",
    status_code=204,
    responses=problem_responses(
        UserNotFound, CannotDeleteSelf, Conflict, PreconditionFailed, ValidationFailed
    ),
)
async def delete_account(
    admin: Admin,
    user_id: PathId,
    precondition: PreconditionDep,
    session: SessionDep,
    bans: BansDep,
    request: Request,
) -> None:
    """Delete an account of another user as `DELETE /users/me` does: with all that the user wrote.

    Comments with answers stay without content and user. The address of a deactivated account stays
    banned. Large accounts take a while; if the response is lost, repeat the request.
    """
    if user_id == admin.id:
        raise CannotDeleteSelf
    user, _ = await lock_account(session, admin, user_id)
    precondition.check(user)
    record_audit_entry(session, admin, AuditAction.delete_user, user_id=user_id)
    storage: Storage | None = request.app.state.media_storage
    await erase_in_batches(session, storage, user_id)
    user, _ = await lock_account(session, admin, user_id)
    await bans.outlive(user)
    await erase_account(session, storage, user_id)


@router.delete(
    "/bans",
    status_code=204,
    responses=problem_responses(*BODY_PROBLEMS, *SCOPE_PROBLEMS, BanNotFound),
)
async def lift_ban(ban: BanLift, admin: Admin, bans: BansDep, session: SessionDep) -> None:
    """Lift the ban of the address of a deleted account: it can be registered again."""
    if not await bans.lift(ban.email):
        raise BanNotFound
    record_audit_entry(session, admin, AuditAction.lift_ban)
