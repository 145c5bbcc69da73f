"""The texts of mails, in English and Russian.

They contain nothing that a user has chosen, such as a name: anybody can sign up with the address of
somebody else, and would have their text sent to that address.
"""

from dataclasses import dataclass

from blog_api.core.languages import Language
from blog_api.core.settings import Settings
from blog_api.mail.models import PASSWORD_KINDS, UNDO_KINDS, MailKind


@dataclass(frozen=True)
class Message:
    """A mail in plain text."""

    recipient: str
    subject: str
    text: str


@dataclass(frozen=True)
class Template:
    subject: str
    text: str


EN = {
    MailKind.password_reset: Template(
        "A new password",
        "Somebody, probably you, asked for a new password at {title}.\n\n{code}\n\n"
        "It can be used once, within 30 minutes. If you did not ask for it, ignore this mail: your "
        "password has not changed.",
    ),
    MailKind.account_opened: Template(
        "Your new account",
        "An account with this address was opened for you at {title}. Choose a password to use it."
        "\n\n{code}\n\n"
        "It can be used once, within a week. If you do not want the account, ignore this mail.",
    ),
    MailKind.email_verification: Template(
        "Please confirm your address",
        "This address was entered at {title}. If that was you, please confirm it.\n\n{code}\n\n"
        "The confirmation is possible for a day. If it was not you, ignore this mail.",
    ),
    MailKind.email_change: Template(
        "Please confirm your new address",
        "This address was entered as the new address of an existing account at {title}. Confirm it "
        "only if the account is yours.\n\n{code}\n\n"
        "The confirmation is possible for a day. If it was not you, ignore this mail.",
    ),
    MailKind.email_change_requested: Template(
        "Your address is about to change",
        "Another address was entered for your account at {title}. It takes effect when it has been "
        "confirmed.\n\nIf that was not you, undo the change within a week. This also logs you out "
        "everywhere; then choose a new password.\n\n{code}",
    ),
    MailKind.email_changed: Template(
        "Your address has changed",
        "Your account at {title} has another address now.\n\nIf that was not you, undo the change "
        "within a week. This also logs you out everywhere; then choose a new password.\n\n{code}",
    ),
    MailKind.password_changed: Template(
        "Your password has changed",
        "The password of your account at {title} has changed. If that was not you, reset it.",
    ),
    MailKind.token_created: Template(
        "A new personal token",
        "A personal token was created for your account at {title}. If that was not you, revoke it "
        "and change your password.",
    ),
    MailKind.admin_made: Template(
        "You are an administrator", "Your account at {title} is that of an administrator now."
    ),
    MailKind.admin_dismissed: Template(
        "You are no longer an administrator",
        "Your account at {title} is no longer that of an administrator.",
    ),
}
RU = {
    MailKind.password_reset: Template(
        "Новый пароль",
        "Кто-то, вероятно вы, запросил новый пароль на сайте {title}.\n\n{code}\n\n"
        "Это действует один раз, в течение 30 минут. Если вы ничего не запрашивали, не отвечайте "
        "на письмо: ваш пароль не изменился.",
    ),
    MailKind.account_opened: Template(
        "Ваша новая учётная запись",
        "На сайте {title} для вас открыли учётную запись с этим адресом. Чтобы ею пользоваться, "
        "выберите пароль.\n\n{code}\n\n"
        "Это действует один раз, в течение недели. Если учётная запись вам не нужна, не отвечайте "
        "на письмо.",
    ),
    MailKind.email_verification: Template(
        "Подтвердите адрес",
        "Этот адрес указали на сайте {title}. Если это были вы, подтвердите его.\n\n{code}\n\n"
        "Подтвердить адрес можно в течение суток. Если это были не вы, не отвечайте на письмо.",
    ),
    MailKind.email_change: Template(
        "Подтвердите новый адрес",
        "Этот адрес указали как новый адрес существующей учётной записи на сайте {title}. "
        "Подтвердите его, только если это ваша учётная запись.\n\n{code}\n\n"
        "Подтвердить адрес можно в течение суток. Если это были не вы, не отвечайте на письмо.",
    ),
    MailKind.email_change_requested: Template(
        "Ваш адрес скоро изменится",
        "Для вашей учётной записи на сайте {title} указали другой адрес. Он начнёт действовать "
        "после подтверждения.\n\nЕсли это были не вы, отмените изменение в течение недели. При "
        "этом все сеансы завершатся; затем выберите новый пароль.\n\n{code}",
    ),
    MailKind.email_changed: Template(
        "Ваш адрес изменился",
        "У вашей учётной записи на сайте {title} теперь другой адрес.\n\nЕсли это были не вы, "
        "отмените изменение в течение недели. При этом все сеансы завершатся; затем выберите "
        "новый пароль.\n\n{code}",
    ),
    MailKind.password_changed: Template(
        "Ваш пароль изменился",
        "Пароль вашей учётной записи на сайте {title} изменился. Если это были не вы, "
        "сбросьте его.",
    ),
    MailKind.token_created: Template(
        "Новый личный токен",
        "Для вашей учётной записи на сайте {title} создан личный токен. Если это были не вы, "
        "отзовите его и смените пароль.",
    ),
    MailKind.admin_made: Template(
        "Вы администратор", "Ваша учётная запись на сайте {title} теперь администраторская."
    ),
    MailKind.admin_dismissed: Template(
        "Вы больше не администратор",
        "Ваша учётная запись на сайте {title} больше не администраторская.",
    ),
}
TEMPLATES = {Language.en: EN, Language.ru: RU}
# A front end that has no page for links lets the user paste the code.
CODE_LABELS = {Language.en: "Your code: {code}", Language.ru: "Ваш код: {code}"}


def get_link_template(settings: Settings, kind: MailKind) -> str | None:
    """Return the address with `{token}` of the front end's page for a kind of codes."""
    if kind in PASSWORD_KINDS:
        return settings.password_reset_url
    if kind in UNDO_KINDS:
        return settings.email_undo_url
    return settings.email_verification_url


def make_message(
    settings: Settings, kind: MailKind, language: Language, recipient: str, code: str
) -> Message:
    template = TEMPLATES[language][kind]
    link = get_link_template(settings, kind)
    if link is not None:
        shown = link.replace("{token}", code)
    else:
        shown = CODE_LABELS[language].format(code=code)
    # In one pass: the title may contain braces.
    text = template.text.format_map({"title": settings.title, "code": shown})
    return Message(recipient, f"{settings.title}: {template.subject}", f"{text}\n")
