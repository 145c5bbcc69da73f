"""Settings: what is rejected, and what is escaped."""

import pytest
from pydantic import ValidationError
from sqlalchemy import URL

from tests.support.clients import MINIMUM_HASHING, client_of, make_settings, running


@pytest.mark.parametrize("character", ["x", "0", "я"])
def test_a_secret_key_of_one_repeated_character_is_rejected(character: str):
    with pytest.raises(ValidationError, match="one repeated character"):
        make_settings(secret_key=character * 40)


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_the_title_is_escaped_in_the_documentation(path: str):
    settings = make_settings(database_url="sqlite://", title="</title><script>alert(1)</script>")
    async with running(settings) as app, client_of(app) as client:
        page = (await client.get(path)).text

    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.parametrize(
    ("hosts", "parsed"),
    [
        ("db1,db2", ("db1:5432", "db2:5432")),
        ("ann:p%2C1@db1:5433,10.0.0.2:5432,db3", ("db1:5433", "10.0.0.2:5432", "db3:5432")),
    ],
)
def test_several_hosts_are_written_as_for_libpq(hosts: str, parsed: tuple[str, ...]):
    url = f"postgresql://{hosts}/blog?target_session_attrs=read-write"

    settings = make_settings(database_url=url)

    assert settings.database_url.query["host"] == parsed
    assert settings.database_url.query["target_session_attrs"] == "read-write"
    assert settings.database_url.database == "blog"
    assert settings.database_url.password in (None, "p,1")


@pytest.mark.parametrize("hosts", ["db1,", "db1:x,db2", "db1,db2:123456", "[::1],db2"])
def test_several_hosts_that_are_invalid_are_rejected(hosts: str):
    with pytest.raises(ValidationError, match="has an invalid host or port"):
        make_settings(database_url=f"postgresql://{hosts}/blog")


async def test_another_host_is_tried_if_one_does_not_respond(migrated_url: URL, closed_port: int):
    if migrated_url.get_backend_name() == "sqlite":
        pytest.skip("SQLite has no host")
    port = migrated_url.port or 5432
    hosts = f"{migrated_url.username}@127.0.0.1:{closed_port},{migrated_url.host}:{port}"
    settings = make_settings(
        database_url=f"postgresql://{hosts}/{migrated_url.database}", **MINIMUM_HASHING
    )

    async with running(settings) as app, client_of(app) as client:
        assert (await client.get("/health/ready")).status_code == 200
