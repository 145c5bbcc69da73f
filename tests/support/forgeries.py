"""Forged JWT, each made of the claims of a valid one."""

import base64
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import jwt

from tests.support.clients import SECRET_KEY

HEADER = b'{"alg":"HS256","typ":"at+jwt"}'

Claims = dict[str, Any]
Forge = Callable[[Claims], str]


def encode_part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def sign_bytes(header: bytes, payload: bytes, key: str = SECRET_KEY) -> str:
    """Sign any bytes, even those that no library would sign."""
    signed = f"{encode_part(header)}.{encode_part(payload)}"
    return f"{signed}.{encode_part(hmac.digest(key.encode(), signed.encode(), sha256))}"


def sign(claims: Claims, header: bytes = HEADER) -> str:
    return sign_bytes(header, json.dumps(claims).encode())


def without_claim(claim: str) -> Forge:
    return lambda claims: sign({name: value for name, value in claims.items() if name != claim})


def with_claims(**changes: object) -> Forge:
    return lambda claims: sign(claims | changes)


def with_raw_claim(name: str, text: bytes) -> Forge:
    """Set a claim to text that `json.dumps` would not write."""

    def forge(claims: Claims) -> str:
        payload = json.dumps(claims | {name: "HERE"}).encode().replace(b'"HERE"', text)
        return sign_bytes(HEADER, payload)

    return forge


def with_header(header: bytes) -> Forge:
    return lambda claims: sign(claims, header)


def timestamp_in(**time: int) -> int:
    return int((datetime.now(UTC) + timedelta(**time)).timestamp())


FORGERIES: dict[str, Forge] = {
    "another key": lambda c: sign_bytes(HEADER, json.dumps(c).encode(), "x" * 32),
    "no key": lambda c: sign_bytes(HEADER, json.dumps(c).encode(), ""),
    "no algorithm": lambda c: jwt.encode(c, "", "none", headers={"typ": "at+jwt"}),
    "no algorithm, signed": with_header(b'{"alg":"none","typ":"at+jwt"}'),
    "HS384": lambda c: jwt.encode(c, SECRET_KEY * 2, "HS384", headers={"typ": "at+jwt"}),
    "HS512": lambda c: jwt.encode(c, SECRET_KEY * 2, "HS512", headers={"typ": "at+jwt"}),
    "RS256 in name only": with_header(b'{"alg":"RS256","typ":"at+jwt"}'),
    "an algorithm that is a list": with_header(b'{"alg":["HS256"],"typ":"at+jwt"}'),
    "an algorithm that is null": with_header(b'{"alg":null,"typ":"at+jwt"}'),
    "no algorithm in the header": with_header(b'{"typ":"at+jwt"}'),
    "a header that is a list": with_header(b"[]"),
    "a header that is not JSON": with_header(b"{"),
    "a header of brackets": with_header(b"[" * 1500),
    "a header that is too long": with_header(HEADER + b" " * 100_000),
    "a critical extension": with_header(b'{"alg":"HS256","typ":"at+jwt","crit":["x"],"x":1}'),
    "an unencoded payload": with_header(
        b'{"alg":"HS256","typ":"at+jwt","b64":false,"crit":["b64"]}'
    ),
    "a key id that is a number": with_header(b'{"alg":"HS256","typ":"at+jwt","kid":1}'),
    "no type": with_header(b'{"alg":"HS256"}'),
    "another type": with_header(b'{"alg":"HS256","typ":"JWT"}'),
    "a type that is a number": with_header(b'{"alg":"HS256","typ":1}'),
    "another issuer": with_claims(iss="evil"),
    "an issuer that is a list": with_claims(iss=["blog-api"]),
    "another audience": with_claims(aud="evil"),
    "two audiences": with_claims(aud=["blog-api", "evil"]),
    "an expiry in the past": with_claims(exp=timestamp_in(seconds=-1)),
    "an expiry in 1970": with_claims(exp=0),
    "an expiry that is not a number": with_claims(exp="soon"),
    "an expiry in quotes": with_claims(exp=str(timestamp_in(hours=1))),
    "an expiry that is a list": with_claims(exp=[timestamp_in(hours=1)]),
    "an expiry that is true": with_claims(exp=True),
    "an infinite expiry": with_raw_claim("exp", b"1e999"),
    "an expiry that is NaN": with_raw_claim("exp", b"NaN"),
    "an expiry after the year 9999": with_claims(exp=10**20),
    "an expiry of 2,500 digits": with_raw_claim("exp", b"9" * 2500),
    "a start in the future": with_claims(nbf=timestamp_in(hours=1)),
    "an integer subject": with_claims(sub=1),
    "a subject without its kind": with_claims(sub="1"),
    "another kind of subject": with_claims(sub="admin:1"),
    "a subject with a leading zero": lambda c: sign(c | {"sub": c["sub"].replace(":", ":0")}),
    "a subject in Arabic digits": with_claims(sub="user:\u0661"),
    "another user": lambda c: sign(c | {"sub": f"{c['sub']}1"}),
    "a user id that fits no column": with_claims(sub="user:99999999999999999999"),
    "an unknown session": with_claims(sid="a" * 43),
    "a session that is a number": with_claims(sid=1),
    "a session with a surrogate": with_raw_claim("sid", b'"\\ud800"'),
    "an empty session": with_claims(sid=""),
    "a jti that is a number": with_claims(jti=1),
    "a payload that is a list": lambda c: sign_bytes(HEADER, b"[]"),
    "a payload that is not JSON": lambda c: sign_bytes(HEADER, b"{"),
    "a payload of brackets": lambda c: sign_bytes(HEADER, b"[" * 1500),
    "a payload that is not UTF-8": lambda c: sign_bytes(HEADER, b'{"sub":"\xff"}'),
    "an empty payload": lambda c: sign_bytes(HEADER, b""),
    "four parts": lambda c: sign(c) + ".a",
    "two parts": lambda c: sign(c).rpartition(".")[0],
    "an empty signature": lambda c: sign(c).rpartition(".")[0] + ".",
    "only dots": lambda c: "..",
    **{
        f"no {claim}": without_claim(claim)
        for claim in ("iss", "aud", "sub", "exp", "iat", "jti", "sid", "scope")
    },
}
