"""One mailbox is one account, in every spelling of its domain (IDNA 2008)."""

import asyncio
from unicodedata import normalize

import pytest
from httpx import AsyncClient

from blog_api.core.errors import Conflict
from tests.support.clients import PASSWORD, ChangeUser, bearer
from tests.support.processes import Server

UNICODE, ASCII = "ann@münchen.example", "ann@xn--mnchen-3ya.example"
SPELLINGS = (
    UNICODE,
    ASCII,
    "Ann@MÜNCHEN.example",
    "ann@XN--MNCHEN-3YA.Example",
    normalize("NFD", UNICODE),
    "ann@münchen\u3002example",
)
SHARP_S, DOUBLE_S = "ann@faß.example", "ann@fass.example"
OTHER_PASSWORD = "battery staple"
CONFIRMED = {"current_password": PASSWORD}


async def sign_up(
    client: AsyncClient, email: str, status: int = 200, password: str = PASSWORD
) -> None:
    """Create an account and log the client in."""
    body = {"email": email, "name": "User", "password": password}
    response = await client.post("/sign-up", json=body)
    assert response.status_code == status, response.text
    if status == 200:
        client.headers.update(bearer(response.json()["token"]["access_token"]))
    else:
        assert response.json()["detail"] == "Email already registered"


async def log_in(client: AsyncClient, email: str, password: str = PASSWORD) -> str | None:
    """Return the address of the account, or None if both routes reject the log-in."""
    form = {"username": email, "password": password, "grant_type": "password"}
    emails: set[str | None] = set()
    for path in ("/auth", "/token"):
        response = await client.post(path, data=form)
        if response.status_code == 200:
            headers = bearer(response.json()["access_token"])
            emails.add((await client.get("/users/me", headers=headers)).json()["email"])
        else:
            assert response.json()["detail"].startswith("Incorrect")
            emails.add(None)
    (found,) = emails
    return found


async def share_mailbox(client: AsyncClient, change_user: ChangeUser) -> None:
    """Create two accounts of one mailbox, as the version before could."""
    for email, registered in ((UNICODE, "1@example.com"), (ASCII, "2@example.com")):
        await sign_up(client, registered, password=f"{PASSWORD} {email}")
        await change_user(registered, email=email, email_key=email)


@pytest.mark.parametrize("first", SPELLINGS)
async def test_a_mailbox_signs_up_once(anonymous: AsyncClient, first: str):
    await sign_up(anonymous, first)

    for second in SPELLINGS:
        await sign_up(anonymous, second, status=400)
        created = await anonymous.post("/users", json={"email": second, "password": PASSWORD})
        assert created.json()["detail"] == "Email already registered"


@pytest.mark.parametrize("registered", SPELLINGS)
async def test_an_account_logs_in_by_any_spelling(anonymous: AsyncClient, registered: str):
    await sign_up(anonymous, registered)

    for spelling in SPELLINGS:
        assert await log_in(anonymous, spelling) == registered
    for other in ("ann@munchen.example", "ann@mnchen-3ya.example", "ann@xn--munchen.example"):
        assert await log_in(anonymous, other) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ann@bücher.xn--mnchen-3ya.example", "ann@xn--bcher-kva.münchen.example"),
        ("ann@FA\u1e9e.example", SHARP_S),
        # A lunate sigma is a sigma, but NFKC makes it a final sigma, which IDNA 2008 tells apart.
        ("ann@a\u03f2.example", "ann@a\u03c3.example"),
    ],
)
async def test_domains_are_compared_as_their_a_labels(
    anonymous: AsyncClient, first: str, second: str
):
    await sign_up(anonymous, first)

    await sign_up(anonymous, second, status=400)
    assert await log_in(anonymous, second) == first


async def test_an_account_logs_in_by_full_width_characters(anonymous: AsyncClient):
    await sign_up(anonymous, UNICODE)

    assert await log_in(anonymous, "\uff41nn\uff20münchen\uff0eexample") == UNICODE


@pytest.mark.parametrize("emails", [(SHARP_S, DOUBLE_S), (DOUBLE_S, SHARP_S)])
async def test_domains_with_sharp_s_and_double_s_differ(
    anonymous: AsyncClient, emails: tuple[str, str]
):
    for number, email in enumerate(emails):
        await sign_up(anonymous, email, password=f"{PASSWORD} {number}")

    for number, email in enumerate(emails):
        assert await log_in(anonymous, email, f"{PASSWORD} {number}") == email
        assert await log_in(anonymous, email, f"{PASSWORD} {1 - number}") is None
        await sign_up(anonymous, email, status=400)
    await sign_up(anonymous, "ann@xn--fa-hia.example", status=400)


async def test_an_account_is_not_found_by_another_domain_of_the_same_casefold(
    anonymous: AsyncClient, change_user: ChangeUser
):
    await sign_up(anonymous, SHARP_S)
    for _ in range(2):
        assert await log_in(anonymous, DOUBLE_S) is None
        assert await log_in(anonymous, SHARP_S) == SHARP_S
        await change_user(SHARP_S, mailbox_key=None)


async def test_an_address_can_change_to_another_spelling_but_not_to_a_taken_mailbox(
    ann: AsyncClient, bob: AsyncClient
):
    async def change_email(client: AsyncClient, email: str) -> int:
        response = await client.patch("/users/me", json=CONFIRMED | {"email": email})
        return response.status_code

    assert await change_email(ann, UNICODE) == 200
    assert await change_email(bob, ASCII) == 400
    assert await change_email(ann, ASCII) == 200
    assert await change_email(bob, UNICODE) == 400
    for spelling in SPELLINGS:
        assert await log_in(ann, spelling) == ASCII
    assert await change_email(ann, "ann@fass.example") == 200
    assert await change_email(ann, "ann@faß.example") == 200
    assert await change_email(bob, UNICODE) == 200
    assert await log_in(ann, "ann@example.com") is None


async def test_a_mailbox_is_not_free_while_its_spelling_changes(
    ann: AsyncClient, bob: AsyncClient, change_user: ChangeUser
):
    """A concurrent sign-up looks for missing keys before, and inserts its key after the change."""
    for email in (UNICODE, ASCII):
        changed = await ann.patch("/users/me", json=CONFIRMED | {"email": email})
        assert changed.status_code == 200

    with pytest.raises(Conflict):
        await change_user("bob@example.com", mailbox_key=ASCII)


async def test_a_deleted_account_frees_its_mailbox(anonymous: AsyncClient):
    await sign_up(anonymous, UNICODE)
    await anonymous.request("DELETE", "/users/me", json=CONFIRMED)

    await sign_up(anonymous, ASCII)


async def test_administrators_find_an_account_by_any_spelling(
    admin: AsyncClient, anonymous: AsyncClient
):
    emails = (UNICODE, "bob@xn--mnchen-3ya.example", SHARP_S)
    for email in emails:
        await sign_up(anonymous, email)

    async def search(q: str) -> list[str]:
        found = await admin.get("/admin/users", params={"q": q})
        return [user["email"] for user in found.json()["results"]]

    for q in ("münchen", "@MÜNCHEN.example", ".example", "xn--mnchen-3ya", "@xn--mnchen"):
        assert {*emails[:2]} <= {*await search(q)}, q
    assert await search("faß") == await search("@faß.example") == [SHARP_S]


async def test_a_sign_up_without_a_key_has_its_mailbox_too(
    anonymous: AsyncClient, change_user: ChangeUser
):
    """The version before leaves the key null."""
    await sign_up(anonymous, UNICODE)
    for status in (400, 200):
        await change_user(UNICODE, mailbox_key=None)
        if status == 400:
            await sign_up(anonymous, ASCII, status=400)
        else:
            assert await log_in(anonymous, ASCII) == UNICODE
    assert len((await anonymous.get("/users")).json()) == 1


async def test_filling_a_key_is_no_change_of_the_account(
    anonymous: AsyncClient, change_user: ChangeUser
):
    await sign_up(anonymous, UNICODE)
    await change_user(UNICODE, mailbox_key=None)
    before = await anonymous.get("/users/me")

    assert await log_in(anonymous, ASCII) == UNICODE

    after = await anonymous.get("/users/me")
    assert after.json() == before.json()
    assert after.headers["ETag"] == before.headers["ETag"]


async def test_an_address_changed_without_its_key_has_its_mailbox_too(
    anonymous: AsyncClient, change_user: ChangeUser
):
    """The version before changes the address alone."""
    await sign_up(anonymous, "ann@example.com")

    await change_user("ann@example.com", email=UNICODE, email_key=UNICODE)

    assert await log_in(anonymous, UNICODE) == await log_in(anonymous, ASCII) == UNICODE
    assert await log_in(anonymous, "ann@example.com") is None
    await sign_up(anonymous, ASCII, status=400)
    await sign_up(anonymous, "ann@example.com")


async def test_two_accounts_of_one_mailbox_log_in_by_their_own_spellings(
    anonymous: AsyncClient, change_user: ChangeUser
):
    await share_mailbox(anonymous, change_user)

    for email in (UNICODE, ASCII):
        assert await log_in(anonymous, email, f"{PASSWORD} {email}") == email
    for spelling in SPELLINGS:
        await sign_up(anonymous, spelling, status=400)


async def test_two_accounts_of_one_mailbox_keep_their_addresses(
    anonymous: AsyncClient, change_user: ChangeUser
):
    await share_mailbox(anonymous, change_user)
    for email in (UNICODE, ASCII):
        password = f"{PASSWORD} {email}"
        form = {"username": email, "password": password, "scope": "users:write"}
        token = (await anonymous.post("/auth", data=form)).json()["access_token"]
        changes = {"email": email, "name": "New", "current_password": password}

        changed = await anonymous.patch("/users/me", json=changes, headers=bearer(token))

        assert changed.status_code == 200
        assert await log_in(anonymous, email, password) == email


async def test_the_other_account_of_a_mailbox_inherits_it(
    anonymous: AsyncClient, change_user: ChangeUser
):
    await share_mailbox(anonymous, change_user)
    password = f"{PASSWORD} {UNICODE}"
    token = (
        await anonymous.post("/auth", data={"username": UNICODE, "password": password})
    ).json()["access_token"]
    deleted = await anonymous.request(
        "DELETE", "/users/me", json={"current_password": password}, headers=bearer(token)
    )
    assert deleted.status_code == 204

    assert await log_in(anonymous, UNICODE, f"{PASSWORD} {ASCII}") == ASCII
    await sign_up(anonymous, UNICODE, status=400)


async def test_two_accounts_of_a_mailbox_do_not_hide_the_domain_with_double_s(
    anonymous: AsyncClient, change_user: ChangeUser
):
    for email, registered in (("ann@xn--fa-hia.example", "1@x.com"), (SHARP_S, "2@x.com")):
        await sign_up(anonymous, registered)
        key = {SHARP_S: DOUBLE_S}.get(email, email)
        await change_user(registered, email=email, email_key=key)

    await sign_up(anonymous, DOUBLE_S, password=OTHER_PASSWORD)

    assert await log_in(anonymous, DOUBLE_S, OTHER_PASSWORD) == DOUBLE_S
    assert await log_in(anonymous, SHARP_S) == SHARP_S
    await sign_up(anonymous, DOUBLE_S, status=400)


@pytest.mark.processes
async def test_one_of_twenty_concurrent_sign_ups_of_a_mailbox_succeeds(server: Server):
    spellings = [SPELLINGS[number % len(SPELLINGS)] for number in range(20)]
    async with server.client() as client:
        bodies = [{"email": email, "name": "User", "password": PASSWORD} for email in spellings]
        responses = await asyncio.gather(*(client.post("/sign-up", json=body) for body in bodies))

    assert sorted(response.status_code for response in responses) == [200] + [400] * 19
