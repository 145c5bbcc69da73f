"""Accounts and public profiles."""

import pytest
from httpx import AsyncClient

from tests.support.clients import (
    CHEAP_HASHING,
    PASSWORD,
    client_of,
    id_of,
    make_settings,
    running,
    sign_up,
)

CONFIRMED = {"current_password": PASSWORD}
NEW = {"email": "carl@example.com", "password": PASSWORD}


async def test_an_account_can_be_created_without_logging_in(anonymous: AsyncClient):
    response = await anonymous.post("/users", json=NEW | {"name": "Carl"})

    assert response.status_code == 201
    account = response.json()
    assert account.keys() == {
        "id", "email", "email_verified_at", "pending_email", "name", "username", "bio",
        "avatar_url", "is_active", "is_admin", "is_author", "created_at", "updated_at",
    }  # fmt: skip
    assert account["name"] == "Carl"
    assert account["created_at"] == account["updated_at"]
    login = await anonymous.post("/auth", data={"username": NEW["email"], "password": PASSWORD})
    assert login.status_code == 200


async def test_an_omitted_name_defaults_to_anonymous(anonymous: AsyncClient):
    response = await anonymous.post("/users", json=NEW)

    assert response.status_code == 201
    assert response.json()["name"] == "Anonymous"


async def test_sign_up_requires_a_name(anonymous: AsyncClient):
    response = await anonymous.post("/sign-up", json=NEW)

    assert response.status_code == 422
    assert response.json()["errors"] == [
        {"loc": ["body", "name"], "type": "missing", "msg": "Field required"}
    ]


@pytest.mark.parametrize(
    "email",
    ["", "carl", "carl@", "@example.com", "a b@example.com", "carl@example", "Carl <c@d.com>",
     "=?utf-8?q?a=0Ab?=@example.com",
     "carl@exa\u0000mple.com", "carl\n@example.com", "carl\ufffd@example.com",
     "carl@" + "a." * 130 + "com", "ﷺ" * 50 + "@example.com", 5, None, ["carl@example.com"]],
)  # fmt: skip
async def test_an_invalid_email_is_rejected(anonymous: AsyncClient, email: object):
    response = await anonymous.post("/users", json=NEW | {"email": email})

    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"][:2] == ["body", "email"]


@pytest.mark.parametrize("name", ["", " ", "a" * 101, "a\nb", "\u0000", "\u001b[31m", "\u0085"])
async def test_an_invalid_name_is_rejected(anonymous: AsyncClient, name: str):
    response = await anonymous.post("/users", json=NEW | {"name": name})

    assert response.status_code == 422


@pytest.mark.parametrize("name", ["Ж", "a" * 100, "🎉" * 100, "O'Neil; DROP TABLE users"])
async def test_any_valid_name_is_accepted(anonymous: AsyncClient, name: str):
    response = await anonymous.post("/users", json=NEW | {"name": name})

    assert response.status_code == 201
    assert response.json()["name"] == name


@pytest.mark.parametrize("password", ["1234567", "", "a" * 129, "null\u0000byte!", 12345678, None])
async def test_an_invalid_password_is_rejected(anonymous: AsyncClient, password: object):
    response = await anonymous.post("/users", json=NEW | {"password": password})

    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"] == ["body", "password"]


@pytest.mark.parametrize("password", ["xk83mz0q", "пл" * 64, "🔑🔒" * 64, " leading and trailing "])
async def test_any_valid_password_can_log_in(anonymous: AsyncClient, password: str):
    await anonymous.post("/users", json=NEW | {"password": password})

    right = await anonymous.post("/auth", data={"username": NEW["email"], "password": password})
    wrong = await anonymous.post(
        "/auth", data={"username": NEW["email"], "password": password[:-1] + "x"}
    )

    assert right.status_code == 200
    assert wrong.status_code == 400


@pytest.mark.parametrize(
    "password", ["12345678", "password1", "Password", "football", "QWERTYUIOP"]
)
async def test_a_common_password_is_rejected(anonymous: AsyncClient, password: str):
    response = await anonymous.post("/users", json=NEW | {"password": password})

    assert response.status_code == 422
    assert response.json()["errors"] == [
        {
            "loc": ["body", "password"],
            "type": "password_refused",
            "msg": "This is one of the most common passwords",
        }
    ]


@pytest.mark.parametrize(
    ("password", "detail"),
    [
        ("zzzzzzzzzz", "Use more than one character"),
        ("x-Caroline-9", "Use no part of your name or email address"),
        ("CAROLINE herschel", "Use no part of your name or email address"),
        ("my herschel 1750", "Use no part of your name or email address"),
        ("comet.hunter!", "Use no part of your name or email address"),
    ],
)
async def test_a_password_that_is_easy_to_guess_is_rejected(
    ann: AsyncClient, anonymous: AsyncClient, password: str, detail: str
):
    who = {"name": "Caroline Herschel", "email": "comet.hunter@example.com"}
    created = await anonymous.post("/users", json=who | {"password": password})
    moved = await ann.patch("/users/me", json=who | CONFIRMED)
    assert moved.status_code == 200
    changed = await ann.put("/users/me/password", json=CONFIRMED | {"new_password": password})

    for response in (created, changed):
        assert response.status_code == 422
        assert response.json()["errors"][0]["msg"] == detail


async def test_a_short_name_may_be_part_of_a_password(anonymous: AsyncClient):
    new = {"name": "Bo Li", "email": "bo@example.com", "password": "li and bo 22"}

    assert (await anonymous.post("/users", json=new)).status_code == 201


async def test_common_passwords_can_be_allowed_by_a_setting():
    settings = make_settings(
        database_url="sqlite://", password_refuse_common=False, **CHEAP_HASHING
    )
    async with running(settings) as app, client_of(app) as client:
        response = await client.post("/users", json=NEW | {"password": "12345678"})

    assert response.status_code == 201


async def test_a_sign_up_cannot_set_is_admin(anonymous: AsyncClient):
    response = await anonymous.post("/users", json=NEW | {"is_admin": True})

    assert response.status_code == 422
    assert (await anonymous.get("/users")).json() == []


async def test_public_profiles_show_no_email(ann: AsyncClient, anonymous: AsyncClient):
    users = (await anonymous.get("/users")).json()
    profile = (await anonymous.get(f"/users/{users[0]['id']}")).json()

    assert users == [profile]
    assert profile.keys() == {
        "id", "username", "name", "avatar_url", "bio", "post_count", "created_at",
    }  # fmt: skip
    assert profile["name"] == "Ann"


async def test_users_can_be_listed_with_skip_and_limit(anonymous: AsyncClient):
    for name in ("Ann", "Bob", "Carl"):
        await sign_up(anonymous, name)

    response = await anonymous.get("/users?skip=1&limit=1")

    assert [user["name"] for user in response.json()] == ["Bob"]


@pytest.mark.parametrize(
    "query", ["skip=-1", "limit=0", "limit=101", "skip=abc", f"skip={2**63}", f"limit={10**30}"]
)
async def test_invalid_skip_and_limit_are_rejected(anonymous: AsyncClient, query: str):
    assert (await anonymous.get(f"/users?{query}")).status_code == 422


async def test_an_unknown_user_is_not_found(anonymous: AsyncClient):
    for path in ("/users/1", "/users/1/posts"):
        response = await anonymous.get(path)

        assert response.status_code == 404
        assert response.json()["detail"] == "User not found"


async def test_user_ids_are_never_reused(anonymous: AsyncClient):
    first = (await anonymous.post("/users", json=NEW)).json()["id"]
    await sign_up(anonymous, "Ann")
    last = await id_of(anonymous)
    await anonymous.request("DELETE", "/users/me", json={"current_password": PASSWORD})
    del anonymous.headers["Authorization"]

    after = (await anonymous.post("/users", json=NEW | {"email": "x@example.com"})).json()["id"]

    assert first < last < after


async def test_users_can_be_searched_by_the_beginning_of_a_word(
    anonymous: AsyncClient,
):
    names = (
        "Ann", "Bob", "Анна Ёлкина", "100% real", "snake_case", "back\\slash", "É", "山田太郎",
        "İrem", "Groß", "हिन्दी",
    )  # fmt: skip
    for number, name in enumerate(names):
        await anonymous.post("/users", json=NEW | {"email": f"{number}@example.com", "name": name})

    async def search(q: str, **query: str) -> list[str]:
        response = await anonymous.get("/users", params={"q": q, **query})
        assert response.status_code == 200, response.text
        return [user["name"] for user in response.json()]

    for name in names:
        assert (
            await search(name) == await search(name.lower()) == await search(name.upper()) == [name]
        )
    assert await search("анн") == await search("ЁЛКИ") == await search("анна ё") == ["Анна Ёлкина"]
    assert await search("E\u0301") == await search("e") == ["É"]
    # A name with the letter, and one without its dots.
    assert await search("елки") == await search("анна елк") == ["Анна Ёлкина"]
    # In the order of the names from the word on.
    assert await search("b") == ["back\\slash", "Bob"]
    assert await search("b", skip="1") == ["Bob"]
    assert await search("b", limit="1") == ["back\\slash"]
    assert await search("s") == ["back\\slash", "snake_case"]
    assert await search("太郎") == await search("田") == ["山田太郎"]
    assert await search("irem") == await search("IREM") == ["İrem"]
    assert await search("gross") == await search("GROSS") == ["Groß"]
    assert await search("REAL") == await search("100%  r") == ["100% real"]
    for q in ("", " ", "\u200b"):
        assert await search(q) == list(names)
    for q in (
        "nn",
        "%",
        "_",
        "\\",
        "bob a",
        "%%",
        "a%",
        "__",
        "*",
        "'",
        '"',
        "'; DROP TABLE users",
        "🎉",
        "ann@example.com",
    ):
        assert await search(q) == [], q
    # Characters that no name can have.
    for q in ("\x00", "Ann\x00", "\x01", "\x85", "\ufffd", "\uffff"):
        assert await search(q) == [], ascii(q)


async def test_a_user_with_several_matching_words_is_found_once(anonymous: AsyncClient):
    for number, name in enumerate(("Anna Annan", "Annabel", "Joanna Ann-Annika")):
        await anonymous.post("/users", json=NEW | {"email": f"{number}@example.com", "name": name})

    for q, found in (
        ("ann", ["Joanna Ann-Annika", "Anna Annan", "Annabel"]),
        ("anna", ["Anna Annan", "Annabel"]),
        ("annan", ["Anna Annan"]),
        ("anni", ["Joanna Ann-Annika"]),
    ):
        pages = [
            user["name"]
            for skip in range(len(found) + 1)
            for user in (await anonymous.get(f"/users?q={q}&skip={skip}&limit=1")).json()
        ]
        assert pages == found, q


async def test_a_renamed_user_is_found_by_the_new_name_alone(
    ann: AsyncClient, anonymous: AsyncClient
):
    await ann.patch("/users/me", json={"name": "Bea Moon"})

    assert (await anonymous.get("/users?q=ann")).json() == []
    for q in ("bea", "moon"):
        assert [user["name"] for user in (await anonymous.get(f"/users?q={q}")).json()] == [
            "Bea Moon"
        ]
    await ann.request("DELETE", "/users/me", json={"current_password": PASSWORD})
    assert (await anonymous.get("/users?q=bea")).json() == []


async def test_the_name_query_of_users_has_a_maximum_length(anonymous: AsyncClient):
    assert (await anonymous.get("/users", params={"q": "a" * 100})).status_code == 200
    assert (await anonymous.get("/users", params={"q": "a" * 101})).status_code == 422
