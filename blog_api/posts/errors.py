"""Errors of posts."""

from types import MappingProxyType

from blog_api.accounts.errors import WRITE_PROBLEMS, NotAnAuthor
from blog_api.core.errors import Conflict, Forbidden, NotFound, Problem, ValidationFailed
from blog_api.web.conditional import PreconditionFailed


class PostNotFound(NotFound):
    detail = "Post not found"


class PostGone(Problem):
    status = 410
    detail = "This post was deleted"


class NotAcceptable(Problem):
    status = 406
    detail = "This post is HTML and has no Markdown"
    headers = MappingProxyType({"Vary": "Accept"})


class SlugTaken(Problem):
    """The slug belongs or belonged to another post, whether you may see that or not."""

    status = Conflict.status
    detail = "Another post has or had this slug"


class NotYourPost(Forbidden):
    detail = "You don't have access to modify this post"


OWN_POST_PROBLEMS = (
    *WRITE_PROBLEMS,
    PostNotFound,
    NotYourPost,
    PreconditionFailed,
    ValidationFailed,
)
EDIT_PROBLEMS = (*OWN_POST_PROBLEMS, NotAnAuthor)
