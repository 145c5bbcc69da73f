"""Errors of posts."""

from blog_api.accounts.errors import SCOPE_PROBLEMS
from blog_api.core.errors import Forbidden, NotFound, Problem, ValidationFailed
from blog_api.web.conditional import PreconditionFailed


class PostNotFound(NotFound):
    detail = "Post not found"


class PostGone(Problem):
    status = 410
    detail = "This post was deleted"


class NotYourPost(Forbidden):
    detail = "You don't have access to modify this post"


OWN_POST_PROBLEMS = (
    *SCOPE_PROBLEMS,
    PostNotFound,
    NotYourPost,
    PreconditionFailed,
    ValidationFailed,
)
