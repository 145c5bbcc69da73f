"""Authentication by the tokens of the service, of which the table has digests."""

from rest_framework.authentication import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed

from ..tutorial.texts import digest, utc_now
from .models import Token, User


class BearerAuthentication(TokenAuthentication):
    keyword = "Bearer"

    def authenticate_credentials(self, key: str) -> tuple[User, Token]:
        tokens = Token.objects.select_related("user").filter(
            digest=digest(key), refresh_digest=None, expires_at__gt=utc_now()
        )
        token = tokens.first()
        if token is None or not token.user.is_active:
            raise AuthenticationFailed
        return token.user, token
