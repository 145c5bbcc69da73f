"""Errors of the administration."""

from blog_api.core.errors import Conflict, NotFound


class CannotDeleteSelf(Conflict):
    """`DELETE /users/me` deletes the own account, with the password."""

    detail = "Delete your own account with DELETE /users/me"


class BanNotFound(NotFound):
    """The ban of an account that exists ends with its activation."""

    detail = "No deleted account left a ban of this address"
