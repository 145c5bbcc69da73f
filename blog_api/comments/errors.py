"""Errors of comments."""

from blog_api.accounts.errors import OPTIONAL_AUTH_PROBLEMS, WRITE_PROBLEMS
from blog_api.comments.models import MAX_THREAD_DEPTH
from blog_api.core.errors import BadRequest, Forbidden, NotFound, ValidationFailed
from blog_api.web.conditional import PreconditionFailed


class CommentNotFound(NotFound):
    detail = "Comment not found"


class NotYourComment(Forbidden):
    detail = "You don't have access to modify this comment"


class CommentsClosed(Forbidden):
    """The post takes no comments, or the service takes none."""

    detail = "Comments are closed"


class ThreadTooDeep(BadRequest):
    detail = f"Answers go {MAX_THREAD_DEPTH} deep at most"


READ_PROBLEMS = (*OPTIONAL_AUTH_PROBLEMS, CommentNotFound, ValidationFailed)

CHANGE_PROBLEMS = (
    *WRITE_PROBLEMS,
    CommentNotFound,
    NotYourComment,
    PreconditionFailed,
    ValidationFailed,
)
