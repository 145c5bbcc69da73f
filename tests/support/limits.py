"""Settings and assertions of the tests of rate limits."""

from httpx import Response

from blog_api.core.settings import Settings
from tests.support.clients import CHEAP_HASHING, make_settings


def make_limited_settings(**values: object) -> Settings:
    return make_settings(
        database_url="sqlite://", rate_limit_enabled=True, **CHEAP_HASHING, **values
    )


def assert_limited(response: Response, name: str, amount: int, window: int) -> None:
    assert response.status_code == 429, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["type"] == "urn:blog-api:too-many-requests"
    seconds = int(response.headers["Retry-After"])
    assert 0 < seconds <= window
    assert response.headers["RateLimit-Policy"] == f'"{name}";q={amount};w={window}'
    assert response.headers["RateLimit"] == f'"{name}";r=0;t={seconds}'
