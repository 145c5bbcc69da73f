"""Forms of `/auth` and `/token`: their encoding, and parameters that are sent twice."""

from collections.abc import AsyncIterator

import pytest
from httpx import AsyncClient

PASSWORD = "пароль длинный ÿ"
EMAIL = "дина@example.com"
FORM = {"username": EMAIL, "password": PASSWORD, "grant_type": "password"}
URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}
PATHS = pytest.mark.parametrize("path", ["/auth", "/token", "/api/v1/token"])


def join_raw(form: dict[str, str]) -> str:
    """Encode a form without percent-encoding, as `curl -d` does."""
    return "&".join(f"{name}={value}" for name, value in form.items())


def join_parts(*fields: tuple[str, str]) -> bytes:
    """Encode a form as multipart, as `curl -F` does."""
    head = '--x\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    return "".join([*(head.format(*field) for field in fields), "--x--\r\n"]).encode()


@pytest.fixture
async def dina(anonymous: AsyncClient) -> AsyncClient:
    """A client of an account whose address and password are not ASCII."""
    body = {"email": EMAIL, "name": "Dina", "password": PASSWORD}
    assert (await anonymous.post("/sign-up", json=body)).status_code == 200
    return anonymous


@PATHS
@pytest.mark.parametrize(
    "media_type", [URLENCODED["Content-Type"], "APPLICATION/X-WWW-Form-URLEncoded; charset=utf-8"]
)
async def test_a_form_of_raw_utf_8_is_decoded(dina: AsyncClient, path: str, media_type: str):
    body = join_raw(FORM).encode()

    response = await dina.post(path, content=body, headers={"Content-Type": media_type})

    assert response.status_code == 200, response.text


@PATHS
async def test_raw_and_percent_encoded_bytes_may_be_mixed(dina: AsyncClient, path: str):
    body = (
        join_raw(FORM).encode().replace("п".encode(), b"%D0\xbf").replace("й".encode(), b"\xd0%b9")
    )

    response = await dina.post(path, content=body, headers=URLENCODED)

    assert response.status_code == 200, response.text


@PATHS
async def test_a_character_may_be_split_between_chunks(dina: AsyncClient, path: str):
    async def send_bytes() -> AsyncIterator[bytes]:
        for byte in join_raw(FORM).encode():
            yield bytes([byte])

    response = await dina.post(path, content=send_bytes(), headers=URLENCODED)

    assert response.status_code == 200, response.text


@PATHS
async def test_a_multipart_form_is_decoded_as_utf_8(dina: AsyncClient, path: str):
    body = join_parts(*FORM.items())

    response = await dina.post(path, content=body, headers=MULTIPART)

    assert response.status_code == 200, response.text


@PATHS
@pytest.mark.parametrize("character", [b"\xff", b"%FF", b"\xd0", b"\xed\xa0\x80", b"\xc0\xaf"])
async def test_an_address_that_is_not_utf_8_is_rejected(
    anonymous: AsyncClient, path: str, character: bytes
):
    body = b"grant_type=password&password=x&username=ann" + character + b"@example.com"

    response = await anonymous.post(path, content=body, headers=URLENCODED)

    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert (error["loc"], error["type"]) == (["body", "username"], "not_utf8")


@PATHS
async def test_a_password_that_is_not_utf_8_is_wrong(dina: AsyncClient, path: str):
    body = join_raw(FORM).encode().replace("ÿ".encode(), b"\xff")

    response = await dina.post(path, content=body, headers=URLENCODED)

    assert response.status_code == (400 if path == "/auth" else 401)
    assert response.json()["detail"].startswith("Incorrect")


@PATHS
@pytest.mark.parametrize(
    "repeated",
    [
        [("username", "ann@example.com")],
        [("password", PASSWORD)],
        [("password", "")],
        [("grant_type", "password")],
        [("scope", "posts:read"), ("scope", "posts:read")],
        [("client_id", "a"), ("client_id", "b")],
    ],
    ids=lambda repeated: repeated[0][0],
)
async def test_a_repeated_parameter_is_an_invalid_request(
    dina: AsyncClient, path: str, repeated: list[tuple[str, str]]
):
    fields = [*FORM.items(), *repeated]
    bodies = (
        (URLENCODED, "&".join(f"{name}={value}" for name, value in fields).encode()),
        (MULTIPART, join_parts(*fields)),
    )

    for headers, body in bodies:
        response = await dina.post(path, content=body, headers=headers)

        assert response.status_code == 400
        problem = response.json()
        assert problem["type"] == "urn:blog-api:repeated-parameter"
        assert problem["error"] == "invalid_request"
        assert problem["detail"] == problem["error_description"] == "Send each parameter once"
        assert response.headers["Cache-Control"] == "no-store"


async def test_a_repeated_refresh_token_revokes_nothing(dina: AsyncClient):
    token = (await dina.post("/token", data=FORM)).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": token}

    repeated = await dina.post("/token", data=form | {"refresh_token": [token, "other"]})
    once = await dina.post("/token", data=form)

    assert repeated.json()["error"] == "invalid_request"
    assert once.status_code == 200
