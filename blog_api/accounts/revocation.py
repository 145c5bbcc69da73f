"""OAuth2 for libraries: revoke a token (RFC 7009), and metadata (RFC 8414)."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from sqlalchemy import delete
from sqlmodel import Field, col

from blog_api.accounts.auth import SignerDep
from blog_api.accounts.errors import InvalidRevocationRequest, RepeatedParameter
from blog_api.accounts.forms import UNIQUE_PARAMETERS, FormRoute
from blog_api.accounts.idempotency import NO_KEY, IdempotencyKeyNotSupported
from blog_api.accounts.jwt import MAX_JWT_LENGTH, InvalidJWT, JWTSigner
from blog_api.accounts.models import Token
from blog_api.accounts.rate_limits import REVOCATIONS, LoginThrottleDep
from blog_api.accounts.scopes import Scope
from blog_api.core.errors import (
    BODY_PROBLEMS,
    NotFound,
    ServiceUnavailable,
    TooManyRequests,
    problem_responses,
)
from blog_api.core.fields import (
    MAX_SMALL_BODY_BYTES,
    RequestModel,
    ResponseModel,
    schema_example,
)
from blog_api.core.security import hash_token
from blog_api.core.settings import Settings
from blog_api.db.session import SessionDep, connection_released
from blog_api.web.conditional import mark_public

router = APIRouter(
    tags=["tokens"],
    max_body_size=MAX_SMALL_BODY_BYTES,
    route_class=FormRoute,
)


class Revocation(RequestModel):
    """The form of RFC 7009, 2.1. Unknown fields are ignored."""

    # Optional: a missing field is an error of OAuth2, not a 422.
    token: str | None = Field(
        default=None,
        max_length=MAX_JWT_LENGTH,
        description="An access token, a refresh token or a personal token.",
        schema_extra=schema_example("the token"),
    )
    token_type_hint: str = Field(
        default="",
        max_length=100,
        description="Ignored: the token itself shows its type.",
        schema_extra=schema_example("refresh_token"),
    )


def find_digest(signer: JWTSigner, secret: str) -> str:
    """Return the digest of the session or personal token that a token belongs to."""
    try:
        return signer.verify(secret).session_digest
    except InvalidJWT:
        # Opaque, or the refresh token of a session, which begins with its handle.
        return hash_token(secret.partition(".")[0])


@router.post(
    "/revoke",
    response_class=Response,
    responses=problem_responses(
        *BODY_PROBLEMS,
        IdempotencyKeyNotSupported,
        InvalidRevocationRequest,
        RepeatedParameter,
        ServiceUnavailable,
        TooManyRequests,
    ),
    dependencies=[NO_KEY, UNIQUE_PARAMETERS],
)
async def revoke_token(
    form: Annotated[Revocation, Form()],
    session: SessionDep,
    signer: SignerDep,
    throttle: LoginThrottleDep,
) -> Response:
    """Revoke a token, and with a JWT or a refresh token its session (RFC 7009).

    200 for an unknown token too. The token itself is the permission: no other is needed.
    """
    if not form.token:
        raise InvalidRevocationRequest
    async with connection_released(session):
        await throttle.count_request(REVOCATIONS)
    digest = find_digest(signer, form.token)
    await session.exec(delete(Token).where(col(Token.digest) == digest))
    return Response(headers={"Cache-Control": "no-store"})


class ServerMetadata(ResponseModel):
    """Metadata of the authorization server, for OAuth2 libraries (RFC 8414)."""

    issuer: str
    """`BLOG_PUBLIC_URL`."""
    token_endpoint: str
    """Address of `POST /token`."""
    revocation_endpoint: str
    """Address of `POST /revoke`."""
    grant_types_supported: list[str]
    """Values of `grant_type`."""
    response_types_supported: list[str]
    """`none`: there is no authorization endpoint."""
    scopes_supported: list[str]
    """Scopes."""
    token_endpoint_auth_methods_supported: list[str]
    """`none`: clients have no secret."""
    revocation_endpoint_auth_methods_supported: list[str]
    """`none`: the token is enough."""
    service_documentation: str
    """Address of the documentation."""


@router.get(
    "/.well-known/oauth-authorization-server",
    response_model=ServerMetadata,
    responses=problem_responses(NotFound),
)
async def read_server_metadata(request: Request) -> ServerMetadata:
    """Return the metadata of RFC 8414. Only with `BLOG_PUBLIC_URL`."""
    settings: Settings = request.app.state.settings
    if settings.public_url is None:
        raise NotFound
    mark_public(request)
    issuer = settings.public_url
    return ServerMetadata(
        issuer=issuer,
        token_endpoint=f"{issuer}/token",
        revocation_endpoint=f"{issuer}/revoke",
        grant_types_supported=["password", "refresh_token"],
        # Required (RFC 8414, 2), and no array may be empty (3.2): `none` returns no token.
        response_types_supported=["none"],
        scopes_supported=list(Scope),
        token_endpoint_auth_methods_supported=["none"],
        revocation_endpoint_auth_methods_supported=["none"],
        service_documentation=f"{issuer}/docs",
    )
