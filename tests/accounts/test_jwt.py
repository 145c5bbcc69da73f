"""Forged and mutated JWT are rejected."""

import random

import jwt
import pytest
from httpx import AsyncClient

from tests.support.clients import PASSWORD, bearer
from tests.support.forgeries import FORGERIES, Claims, Forge, sign

FORM = {"grant_type": "password", "username": "ann@example.com", "password": PASSWORD}
MUTATIONS = 300


def decode(token: str) -> Claims:
    """Return the claims without verifying the signature."""
    claims: Claims = jwt.decode(token, options={"verify_signature": False})
    return claims


async def get_jwt(ann: AsyncClient, **form: str) -> str:
    token: str = (await ann.post("/token", data=FORM | form)).json()["access_token"]
    return token


async def test_a_token_signed_by_the_test_helper_is_accepted(ann: AsyncClient):
    claims = decode(await get_jwt(ann))

    response = await ann.get("/users/me", headers=bearer(sign(claims)))

    assert response.status_code == 200


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
async def test_a_forged_jwt_is_rejected(ann: AsyncClient, forge: Forge):
    headers = bearer(forge(decode(await get_jwt(ann))))

    for path in ("/users/me", "/posts"):
        response = await ann.get(path, headers=headers)

        assert response.status_code == 401, response.text
        assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_signed_jwt_cannot_add_scopes_to_its_session(ann: AsyncClient):
    claims = decode(await get_jwt(ann, scope="users:read"))
    headers = bearer(sign(claims | {"scope": "users:read posts:write admin"}))

    responses = [
        await ann.get("/users/me", headers=headers),
        await ann.post("/posts", json={"title": "Hello", "content": "World"}, headers=headers),
        await ann.get("/admin/stats", headers=headers),
    ]

    assert [response.status_code for response in responses] == [200, 403, 403]


async def test_a_mutated_jwt_is_rejected_or_has_the_same_claims(ann: AsyncClient):
    token = await get_jwt(ann)
    claims = decode(token)
    chance = random.Random(3)
    letters = "abcXYZ019-_.=+/ é\x7f"

    for _ in range(MUTATIONS):
        position = chance.randrange(len(token))
        inserted = chance.choice(["", chance.choice(letters), chance.choice(letters) * 2])
        mutated = token[:position] + inserted + token[position + chance.randrange(2) :]
        response = await ann.get(
            "/users/me", headers={b"Authorization": f"Bearer {mutated}".encode("latin-1")}
        )

        assert response.status_code in (200, 401), mutated
        if response.status_code == 200:
            # Several Base64 strings decode to the same bytes.
            assert decode(mutated.strip()) == claims
