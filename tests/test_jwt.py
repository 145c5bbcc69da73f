"""Forged, mutated and outdated JWT: none gets in."""

import base64
import hmac
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import jwt
import pytest
from httpx import AsyncClient

from tests.support.clients import PASSWORD, SECRET_KEY

FORM = {"grant_type": "password", "username": "ann@example.com", "password": PASSWORD}
MUTATIONS = 300

Claims = dict[str, Any]


def encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def sign_text(header: bytes, payload: bytes, key: str = SECRET_KEY) -> str:
    """A JWT of any bytes, which no library would sign."""
    signed = f"{encode(header)}.{encode(payload)}"
    return f"{signed}.{encode(hmac.digest(key.encode(), signed.encode(), sha256))}"


HEADER = b'{"alg":"HS256","typ":"at+jwt"}'


def sign(claims: Claims, header: bytes = HEADER) -> str:
    return sign_text(header, json.dumps(claims).encode())


def without(claim: str) -> Callable[[Claims], str]:
    return lambda claims: sign({name: value for name, value in claims.items() if name != claim})


def with_(**changes: object) -> Callable[[Claims], str]:
    return lambda claims: sign(claims | changes)


def raw(name: str, text: bytes) -> Callable[[Claims], str]:
    """A claim that `json` would not write."""

    def forge(claims: Claims) -> str:
        payload = json.dumps(claims | {name: "HERE"}).encode().replace(b'"HERE"', text)
        return sign_text(HEADER, payload)

    return forge


def headed(header: bytes) -> Callable[[Claims], str]:
    return lambda claims: sign(claims, header)


def now(**time: int) -> int:
    return int((datetime.now(UTC) + timedelta(**time)).timestamp())


FORGERIES: dict[str, Callable[[Claims], str]] = {
    "another key": lambda c: sign_text(HEADER, json.dumps(c).encode(), "x" * 32),
    "no key": lambda c: sign_text(HEADER, json.dumps(c).encode(), ""),
    "no algorithm": lambda c: jwt.encode(c, "", "none", headers={"typ": "at+jwt"}),
    "no algorithm, signed": headed(b'{"alg":"none","typ":"at+jwt"}'),
    "HS384": lambda c: jwt.encode(c, SECRET_KEY * 2, "HS384", headers={"typ": "at+jwt"}),
    "HS512": lambda c: jwt.encode(c, SECRET_KEY * 2, "HS512", headers={"typ": "at+jwt"}),
    "RS256 in name": headed(b'{"alg":"RS256","typ":"at+jwt"}'),
    "an algorithm that is a list": headed(b'{"alg":["HS256"],"typ":"at+jwt"}'),
    "an algorithm that is null": headed(b'{"alg":null,"typ":"at+jwt"}'),
    "no algorithm in the header": headed(b'{"typ":"at+jwt"}'),
    "a header that is a list": headed(b"[]"),
    "a header that is no JSON": headed(b"{"),
    "a header of brackets": headed(b"[" * 1500),
    "a header that is too long": headed(HEADER + b" " * 100_000),
    "a critical extension": headed(b'{"alg":"HS256","typ":"at+jwt","crit":["x"],"x":1}'),
    "a payload of its own": headed(b'{"alg":"HS256","typ":"at+jwt","b64":false,"crit":["b64"]}'),
    "a key id that is a number": headed(b'{"alg":"HS256","typ":"at+jwt","kid":1}'),
    "no type": headed(b'{"alg":"HS256"}'),
    "another type": headed(b'{"alg":"HS256","typ":"JWT"}'),
    "a type that is a number": headed(b'{"alg":"HS256","typ":1}'),
    "another issuer": with_(iss="evil"),
    "an issuer that is a list": with_(iss=["blog-api"]),
    "another audience": with_(aud="evil"),
    "two audiences": with_(aud=["blog-api", "evil"]),
    "an expiry that has been": with_(exp=now(seconds=-1)),
    "an expiry of 1970": with_(exp=0),
    "an expiry that is no number": with_(exp="soon"),
    "an expiry in quotes": with_(exp=str(now(hours=1))),
    "an expiry that is a list": with_(exp=[now(hours=1)]),
    "an expiry that is true": with_(exp=True),
    "an endless expiry": raw("exp", b"1e999"),
    "an expiry that is NaN": raw("exp", b"NaN"),
    "an expiry beyond all calendars": with_(exp=10**20),
    "an expiry of 5,000 digits": raw("exp", b"9" * 2500),
    "a start to come": with_(nbf=now(hours=1)),
    "an integer for a subject": with_(sub=1),
    "a bare number for a subject": with_(sub="1"),
    "another kind of subject": with_(sub="admin:1"),
    "a subject with a zero": lambda c: sign(c | {"sub": c["sub"].replace(":", ":0")}),
    "a subject in other digits": lambda c: sign(c | {"sub": "user:\u0661"}),
    "somebody else": lambda c: sign(c | {"sub": f"{c['sub']}1"}),
    "a number that fits no column": with_(sub="user:99999999999999999999"),
    "no such log-in": with_(sid="a" * 43),
    "a log-in that is a number": with_(sid=1),
    "a log-in with a surrogate": raw("sid", b'"\\ud800"'),
    "an empty log-in": with_(sid=""),
    "an id that is a number": with_(jti=1),
    "a payload that is a list": lambda c: sign_text(HEADER, b"[]"),
    "a payload that is no JSON": lambda c: sign_text(HEADER, b"{"),
    "a payload of brackets": lambda c: sign_text(HEADER, b"[" * 1500),
    "a payload that is no UTF-8": lambda c: sign_text(HEADER, b'{"sub":"\xff"}'),
    "an empty payload": lambda c: sign_text(HEADER, b""),
    "four parts": lambda c: sign(c) + ".a",
    "two parts": lambda c: sign(c).rpartition(".")[0],
    "an empty signature": lambda c: sign(c).rpartition(".")[0] + ".",
    "only dots": lambda c: "..",
    **{f"no {name}": without(name) for name in ("iss", "aud", "sub", "exp", "iat", "jti", "sid")},
    "no scope": without("scope"),
}


async def get_jwt(ann: AsyncClient) -> tuple[str, Claims]:
    token = (await ann.post("/token", data=FORM)).json()["access_token"]
    return token, jwt.decode(token, options={"verify_signature": False})


async def test_a_token_signed_by_the_test_helper_is_accepted(ann: AsyncClient):
    _, claims = await get_jwt(ann)

    response = await ann.get("/users/me", headers={"Authorization": f"Bearer {sign(claims)}"})

    assert response.status_code == 200


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
async def test_a_forged_jwt_is_rejected(ann: AsyncClient, forge: Callable[[Claims], str]):
    _, claims = await get_jwt(ann)
    headers = {"Authorization": f"Bearer {forge(claims)}"}

    for path in ("/users/me", "/posts"):
        response = await ann.get(path, headers=headers)

        assert response.status_code == 401, response.text
        assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_signed_jwt_cannot_add_scopes_to_its_session(ann: AsyncClient):
    granted = await ann.post("/token", data=FORM | {"scope": "users:read"})
    claims = jwt.decode(granted.json()["access_token"], options={"verify_signature": False})
    forged = sign(claims | {"scope": "users:read posts:write admin"})
    headers = {"Authorization": f"Bearer {forged}"}

    answers = [
        await ann.get("/users/me", headers=headers),
        await ann.post("/posts", json={"title": "Hello", "content": "World"}, headers=headers),
        await ann.get("/admin/stats", headers=headers),
    ]

    assert [answer.status_code for answer in answers] == [200, 403, 403]


async def test_a_mutated_jwt_is_rejected_or_has_the_same_claims(ann: AsyncClient):
    token, claims = await get_jwt(ann)
    chance = random.Random(3)
    letters = "abcXYZ019-_.=+/ é\x7f"

    for _ in range(MUTATIONS):
        place = chance.randrange(len(token))
        replaced = chance.choice(["", chance.choice(letters), chance.choice(letters) * 2])
        mutated = token[:place] + replaced + token[place + chance.randrange(2) :]
        response = await ann.get(
            "/users/me", headers={b"Authorization": f"Bearer {mutated}".encode("latin-1")}
        )

        assert response.status_code in (200, 401), mutated
        if response.status_code == 200:
            # Base64 has several spellings of the same bits.
            assert jwt.decode(mutated.strip(), options={"verify_signature": False}) == claims
