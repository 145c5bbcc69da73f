"""Errors of accounts and authentication."""

from typing import Any

from sqlmodel import Field

from blog_api.core.errors import (
    BODY_PROBLEMS,
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    OAuth2Problem,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
)

# Of one user, without expired ones.
MAX_PERSONAL_TOKENS = 100


class EmailTaken(BadRequest):
    detail = "Email already registered"


class EmailBanned(Conflict):
    """An administrator deactivated the account with this address, and may have deleted it since."""

    detail = "This address is banned: activate the account that has it, or lift the ban"


class UsernameTaken(Conflict):
    """Another user has or had the username."""

    detail = "This username is taken"


class LastAdmin(Conflict):
    detail = "The last active administrator stays one"


class MailNotConfigured(ServiceUnavailable):
    """The operator has not set `BLOG_MAIL_URL`."""

    detail = "This service sends no mail"


class InvalidCode(BadRequest):
    """The code of a mail is unknown, expired, used or replaced by a newer one."""

    detail = "This code is not valid: it was used or replaced, or it has expired"


class EmailNotVerified(Forbidden):
    """`BLOG_REQUIRE_VERIFIED_EMAIL`: verify the address of the account first."""

    detail = "Verify your email address first"


class NotAnAuthor(Forbidden):
    """The account may comment, bookmark and follow, but not write posts or upload pictures."""

    detail = "Your account may not write posts"


class SignUpClosed(Forbidden):
    """`BLOG_SIGN_UP=closed`: administrators open accounts."""

    detail = "Accounts are opened by administrators here"


class UserNotFound(NotFound):
    detail = "User not found"


SIGN_UP_PROBLEMS = (*BODY_PROBLEMS, SignUpClosed, EmailTaken, UsernameTaken, TooManyRequests)


class InvalidScope(OAuth2Problem, BadRequest):
    detail = "There is no such scope, or it is not for you"
    error = "invalid_scope"


class InsufficientScope(Forbidden):
    """The token lacks a scope, which `WWW-Authenticate` names (RFC 6750, 3.1)."""

    detail = "This token lacks the scope that is needed"
    documented_headers = ("WWW-Authenticate",)

    @classmethod
    def extension_schema(cls) -> dict[str, Any]:
        return {"scope": (str, Field(description="The missing scopes, separated by spaces."))}

    def extensions(self) -> dict[str, Any]:
        return {"scope": self.scope}

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}


class NotAuthenticated(Unauthorized):
    detail = "Not authenticated"


class InvalidToken(Unauthorized):
    detail = "Invalid authentication credentials"


class InactiveUser(BadRequest):
    detail = "Inactive user"


class IncorrectPassword(BadRequest):
    detail = "Incorrect password"


# The problems of routes with optional authentication, with any token, with a token that has a
# scope, and with the password as confirmation.
OPTIONAL_AUTH_PROBLEMS = (InvalidToken, InactiveUser)
AUTH_PROBLEMS = (NotAuthenticated, *OPTIONAL_AUTH_PROBLEMS)
SCOPE_PROBLEMS = (*AUTH_PROBLEMS, InsufficientScope)

# Of routes that write comments or delete what the user wrote, and of those that write posts.
WRITE_PROBLEMS = (*SCOPE_PROBLEMS, EmailNotVerified)
WRITE_POST_PROBLEMS = (*WRITE_PROBLEMS, NotAnAuthor)

PASSWORD_PROBLEMS = (*SCOPE_PROBLEMS, IncorrectPassword, TooManyRequests)


class IncorrectLogIn(BadRequest):
    detail = "Incorrect email or password"


class IncorrectCredentials(OAuth2Problem, Unauthorized):
    detail = "Incorrect username or password"
    error = "invalid_grant"


class InvalidGrant(OAuth2Problem, BadRequest):
    detail = "Invalid refresh token"
    error = "invalid_grant"

    def __init__(self, detail: str = detail) -> None:
        self.detail = detail


class InvalidGrantRequest(OAuth2Problem, BadRequest):
    detail = "Send a form with username and password, or refresh_token, as the grant_type needs"
    error = "invalid_request"


class RepeatedParameter(OAuth2Problem, BadRequest):
    detail = "Send each parameter once"
    error = "invalid_request"


class InvalidRevocationRequest(OAuth2Problem, BadRequest):
    detail = "Send a form with the token to revoke as token"
    error = "invalid_request"


class UnsupportedGrantType(OAuth2Problem, BadRequest):
    detail = "The grant_type is password or refresh_token"
    error = "unsupported_grant_type"


class TooManyTokens(Conflict):
    """The user has as many personal tokens as allowed; revoke one."""

    detail = f"You have {MAX_PERSONAL_TOKENS} personal tokens; revoke one to create another"


class TokenNotFound(NotFound):
    detail = "Token not found"


class SessionNotFound(NotFound):
    detail = "Session not found"
