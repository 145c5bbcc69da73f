"""The texts of mails, by the messages that are made of them."""

import re

import pytest
from pydantic import ValidationError

from blog_api.core.languages import Language
from blog_api.mail.models import CODE_LIFETIMES, MailKind
from blog_api.mail.texts import Message, make_message
from blog_api.mail.transport import create_transport
from tests.support.clients import make_settings
from tests.support.smtp import make_mail_settings, smtp_server

CODE = "7.Zm9ydHktdGhyZWUtY2hhcmFjdGVycy1vZi1iYXNlNjQtdGV4dA"
LINKS = {
    "password_reset_url": "https://example.com/password#{token}",
    "email_verification_url": "https://example.com/verify?from=mail#token={token}&x={token}",
    "email_undo_url": "https://example.com/#/undo/{token}",
}
WITH_CODE = set(CODE_LIFETIMES)


def make(kind: MailKind, language: Language, **values: object) -> Message:
    return make_message(make_settings(**values), kind, language, "ann@example.com", CODE)


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("kind", MailKind)
def test_each_kind_has_a_text_in_each_language(kind: MailKind, language: Language):
    message = make(kind, language, title="Ann's blog")

    assert message.subject.startswith("Ann's blog: ")
    assert "Ann's blog" in message.text
    assert (CODE in message.text) == (kind in WITH_CODE)
    assert not set("{}<>") & set(message.text + message.subject)
    own = (message.subject + message.text).replace("Ann's blog", "").replace(CODE, "")
    letters = re.findall(r"[A-Za-z]" if language is Language.ru else r"[^\W\d_A-Za-z]", own)
    assert letters == []


def test_no_two_kinds_have_one_subject():
    for language in Language:
        assert len({make(kind, language).subject for kind in MailKind}) == len(MailKind)


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("kind", sorted(WITH_CODE))
def test_a_link_replaces_the_code(kind: MailKind, language: Language):
    message = make(kind, language, **LINKS)

    (link,) = re.findall(r"^https://\S+$", message.text, re.MULTILINE)
    assert link.replace(CODE, "{token}") in LINKS.values()
    assert message.text.count(CODE) == link.count(CODE)


@pytest.mark.parametrize("title", ["{code}", "{", "}{0}", "%s {title} {token}", "{code.__class__}"])
@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("kind", MailKind)
def test_a_title_is_never_a_template(title: str, kind: MailKind, language: Language):
    message = make(kind, language, title=title)

    assert message.subject.startswith(f"{title}: ")
    assert title in message.text
    assert message.text.count(CODE) == (kind in WITH_CODE)


@pytest.mark.parametrize("ending", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_a_title_has_one_line(ending: str):
    with pytest.raises(ValidationError):
        make_settings(title=f"Blog{ending}Bcc: mallory@example.com")


@pytest.mark.parametrize("title", ["a@b, c@d; <e@f>", '"\\', "x" * 100, "я" * 100])
async def test_a_title_adds_neither_headers_nor_addresses(title: str):
    settings = make_settings(title=title)
    message = make_message(settings, MailKind.password_reset, Language.ru, "ann@example.com", CODE)

    async with smtp_server() as inbox:
        await create_transport(make_mail_settings(inbox.port, title=title))(message)
        delivery = await inbox.receive()

    headers = delivery.message
    assert delivery.recipient == "ann@example.com"
    assert headers["To"] == "ann@example.com"
    assert [one.addr_spec for one in headers["From"].addresses] == ["blog@example.com"]
    assert "Bcc" not in headers
    assert len(headers) == 9
    assert delivery.text == message.text


@pytest.mark.parametrize(
    "line", ["ann@example.com\r\nRCPT TO:<m@example.com>", "a@example.com\nBcc: m@example.com", "."]
)
async def test_no_text_ends_the_message(line: str):
    async with smtp_server() as inbox:
        transport = create_transport(make_mail_settings(inbox.port))
        await transport(Message("ann@example.com", "x", f"a\n{line}\nb\n".replace("\r", "")))
        delivery = await inbox.receive()

    assert delivery.text == f"a\n{line}\nb\n".replace("\r", "")
    assert inbox.is_empty()
