"""Random steps that change accounts and their model alike; everything is checked after each."""

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.support.account_model import (
    ADDRESSES,
    CHANGE_REQUESTED,
    CHANGED,
    DAY,
    GRACE,
    JWT,
    JWT_LIFETIME,
    MINUTE,
    NEW_ADDRESS,
    OPAQUE,
    PASSWORD_CHANGED,
    PASSWORDS,
    PERSONAL,
    PERSONAL_LIFETIME,
    RESET,
    SECOND,
    SESSION_LIFETIME,
    TOKEN_CREATED,
    UNDO,
    VERIFICATION,
    VERIFICATIONS,
    WEEK,
    WRONG_PASSWORD,
    Account,
    Login,
    Mail,
    now,
)
from tests.support.account_state import AccountState
from tests.support.blog_model import draw_from

MAX_ACCOUNTS = 3
SHORT_PAUSES = (SECOND, GRACE - 2 * SECOND, GRACE - SECOND, GRACE, MINUTE)
LONG_PAUSES = (30 * MINUTE, DAY, WEEK, 2 * WEEK)
DIGEST = "A" * 43

kinds = st.sampled_from((JWT, OPAQUE))
accounts = draw_from("current_accounts")
logins = draw_from("weighted_logins")
addresses = st.sampled_from(ADDRESSES)
passwords = st.sampled_from(PASSWORDS)
refresh_tokens = st.sampled_from(
    ("current", "predecessor", "current", "predecessor", "older", "made up", "unknown")
)
# Of those who know the password, most write it right.
is_right = st.sampled_from((True, True, True, False))


class AccountMachine(AccountState):
    @initialize(
        seed=st.integers(0, 999), kinds=st.lists(st.sampled_from((JWT, OPAQUE)), max_size=3)
    )
    def create_accounts(self, seed: int, kinds: list[str]) -> None:
        self.random.seed(seed)
        for address in ADDRESSES[:2]:
            self.sign_up(address)
        for kind in kinds:
            self.log_in(self.accounts[0], kind, True)

    # Sessions.

    @precondition(lambda self: len(self.current_accounts) < MAX_ACCOUNTS)
    @rule(address=addresses)
    def sign_up(self, address: str) -> None:
        body = {"email": address, "name": "Somebody", "password": PASSWORDS[0]}
        if self.find_account(address):
            self.request("POST", "/sign-up", json=body, expect=400)
            return
        shown = self.request("POST", "/sign-up", json=body, expect=200).json()
        account = Account(shown["id"], address, PASSWORDS[0])
        self.accounts.append(account)
        self.add_session(account, OPAQUE, shown["token"]["access_token"])
        self.write_mail(VERIFICATION, address, account)

    def add_session(self, account: Account, kind: str, secret: str) -> Login:
        end = now() + SESSION_LIFETIME
        expires_at = now() + JWT_LIFETIME if kind == JWT else end
        login = self.add_login(account, kind, secret, expires_at, end)
        page = self.request("GET", "/users/me/sessions?size=100", token=secret, expect=200).json()
        (login.id,) = (one["id"] for one in page["results"] if one["is_current"])
        return login

    @rule(account=accounts, kind=kinds, is_right=is_right)
    def log_in(self, account: Account, kind: str, is_right: bool) -> None:
        password = account.password if is_right else WRONG_PASSWORD
        form = {"grant_type": "password", "username": account.email.upper(), "password": password}
        path = "/token" if kind == JWT else "/auth"
        if not is_right or not account.is_active:
            expect = 401 if kind == JWT and not is_right else 400
            self.request("POST", path, data=form, expect=expect)
            return
        grant = self.request("POST", path, data=form, expect=200).json()
        login = self.add_session(account, kind, grant["access_token"])
        if kind == JWT:
            login.refresh_tokens.append(grant["refresh_token"])

    @rule(kind=kinds)
    def log_everybody_in(self, kind: str) -> None:
        for account in self.current_accounts:
            self.log_in(account, kind, True)

    @precondition(lambda self: self.jwt_logins)
    @rule(login=draw_from("jwt_logins"), tokens=st.lists(refresh_tokens, min_size=1, max_size=4))
    def refresh_repeatedly(self, login: Login, tokens: list[str]) -> None:
        for which in tokens:
            self.refresh(login, which)

    def refresh(self, login: Login, which: str) -> None:
        token, is_accepted = self.choose_refresh_token(login, which)
        form = {"grant_type": "refresh_token", "refresh_token": token}
        if not is_accepted or not login.is_current or not login.account.is_active:
            self.request("POST", "/token", data=form, expect=400)
            login.is_revoked |= not is_accepted and login.is_current and which != "unknown"
            return
        grant = self.request("POST", "/token", data=form, expect=200).json()
        if token == login.refresh_tokens[-1]:
            assert grant["refresh_token"] not in login.refresh_tokens
            login.refresh_tokens.append(grant["refresh_token"])
            login.refreshed_at = now()
        assert grant["refresh_token"] == login.refresh_tokens[-1]
        expires_at = min(now() + JWT_LIFETIME, login.expires_at)
        assert timedelta(seconds=grant["expires_in"]) == expires_at - now()
        login.access_tokens.append((grant["access_token"], expires_at))

    def choose_refresh_token(self, login: Login, which: str) -> tuple[str, bool]:
        """Return a refresh token, and whether it is accepted while its session lasts."""
        *older, current = login.refresh_tokens
        if which == "current":
            return current, True
        if which == "predecessor" and older:
            return older[-1], now() - login.refreshed_at < GRACE
        if which == "older" and len(older) > 1:
            return older[-2], False
        handle = DIGEST if which == "unknown" else current.partition(".")[0]
        return f"{handle}.{DIGEST}", False

    @rule(login=logins, which=st.sampled_from(("access", "first access", "refresh", "old refresh")))
    def revoke(self, login: Login, which: str) -> None:
        """Revoke by a token alone; a refresh token belongs to its session for ever."""
        if login.kind == JWT and which in ("refresh", "old refresh"):
            token = login.refresh_tokens[-1 if which == "refresh" else 0]
            is_valid = True
        else:
            token, expires_at = login.access_tokens[0 if which == "first access" else -1]
            is_valid = now() < expires_at
        self.request("POST", "/revoke", data={"token": token}, expect=200)
        login.is_revoked |= is_valid

    @rule(login=logins)
    def log_out(self, login: Login) -> None:
        if self.request_as(login, "DELETE", "/auth", expect=204):
            login.is_revoked = True

    @rule(login=logins, ended=logins)
    def end_login(self, login: Login, ended: Login) -> None:
        """End a session or revoke a personal token by its id."""
        kind = "tokens" if ended.kind == PERSONAL else "sessions"
        is_found = ended.account is login.account and ended.is_current
        path = f"/users/me/{kind}/{ended.id}"
        if self.request_as(login, "DELETE", path, expect=204 if is_found else 404):
            ended.is_revoked |= is_found

    @rule(login=logins)
    def end_other_sessions(self, login: Login) -> None:
        if self.request_as(login, "DELETE", "/users/me/sessions", expect=204):
            for other in self.logins:
                is_session = other.account is login.account and other.kind != PERSONAL
                other.is_revoked |= is_session and other is not login

    @rule(login=logins)
    def revoke_other_tokens(self, login: Login) -> None:
        if self.request_as(login, "DELETE", "/users/me/tokens", expect=204):
            self.revoke_logins(login.account, except_for=login)

    @rule(login=logins, has_password=st.booleans(), is_right=is_right)
    def create_personal_token(self, login: Login, has_password: bool, is_right: bool) -> None:
        account = login.account
        body = {"name": "Script"}
        if has_password:
            body["current_password"] = account.password if is_right else WRONG_PASSWORD
        expect = 201 if is_right or not has_password else 400
        response = self.request_as(login, "POST", "/users/me/tokens", json=body, expect=expect)
        if response is None or expect != 201:
            return
        shown = response.json()
        end = now() + PERSONAL_LIFETIME if has_password else login.access_tokens[-1][1]
        self.add_login(account, PERSONAL, shown["access_token"], end, end).id = shown["id"]
        self.write_mail(TOKEN_CREATED, account.email, account)

    # Passwords.

    @rule(login=logins, new=passwords, is_right=is_right)
    def change_password(self, login: Login, new: str, is_right: bool) -> None:
        account = login.account
        current = account.password if is_right else WRONG_PASSWORD
        body = {"current_password": current, "new_password": new}
        expect = 204 if is_right else 400
        if self.request_as(login, "PUT", "/users/me/password", json=body, expect=expect):
            if not is_right:
                return
            account.password = new
            self.drop_pending_email(account)
            self.void_mails(account, RESET)
            self.revoke_logins(account, except_for=login)
            self.write_mail(PASSWORD_CHANGED, account.email, account)

    @rule(address=addresses)
    def request_reset(self, address: str) -> None:
        self.request("POST", "/password-resets", json={"email": address}, expect=202)
        self.write_mail(RESET, address, None)

    @precondition(lambda self: self.reset_codes)
    @rule(mail=draw_from("reset_codes"), new=passwords)
    def reset_password(self, mail: Mail, new: str) -> None:
        body = {"token": mail.code, "new_password": new}
        expect = 204 if mail.is_usable else 400
        self.request("POST", "/password-resets/confirm", json=body, expect=expect)
        account = mail.account
        if account is None or not mail.is_usable:
            return
        if account.verified_at is None:
            self.void_mails(account, *UNDO)
        else:
            for undo in self.mails:
                is_unproven = undo.account is account and not undo.is_verified
                undo.is_void |= is_unproven and undo.kind in UNDO
        account.password = new
        account.pending_email = None
        account.verify()
        self.void_mails(account, RESET, *VERIFICATIONS)
        self.revoke_logins(account)
        self.write_mail(PASSWORD_CHANGED, account.email, account)

    # Addresses.

    @rule(login=logins)
    def request_verification(self, login: Login) -> None:
        account = login.account
        path = "/email-verifications"
        if self.request_as(login, "POST", path, json={}, expect=202):
            pending = account.pending_email
            if pending is not None and self.is_taken(pending, by_other_than=account):
                account.pending_email = None
            elif pending is not None or account.verified_at is None:
                self.void_mails(account, *VERIFICATIONS)
                kind = VERIFICATION if pending is None else NEW_ADDRESS
                self.write_mail(kind, pending or account.email, account)

    @rule(login=logins, address=addresses, is_right=is_right)
    def change_email(self, login: Login, address: str, is_right: bool) -> None:
        account = login.account
        password = account.password if is_right else WRONG_PASSWORD
        is_taken = self.is_taken(address, by_other_than=account)
        expect = 200 if is_right and not is_taken else 400
        body = {"email": address, "current_password": password}
        response = self.request_as(login, "PATCH", "/users/me", json=body, expect=expect)
        if response is None or expect != 200:
            return
        if address != account.pending_email:
            self.drop_pending_email(account)
            if address != account.email:
                account.pending_email = address
                self.write_mail(NEW_ADDRESS, address, account)
                self.write_mail(CHANGE_REQUESTED, account.email, account)
        shown = response.json()
        assert (shown["email"], shown["pending_email"]) == (account.email, account.pending_email)

    @rule(login=logins, addresses=st.lists(addresses, min_size=1, max_size=3))
    def change_email_repeatedly(self, login: Login, addresses: list[str]) -> None:
        """Confirm each change at once."""
        for address in addresses:
            self.change_email(login, address, True)
            self.deliver_mails()
            if newest := next(iter(self.verification_codes), None):
                self.confirm_email(newest)
            self.clock.shift(SECOND)

    @precondition(lambda self: self.verification_codes)
    @rule(mail=draw_from("verification_codes"))
    def confirm_email(self, mail: Mail) -> None:
        account = mail.account
        is_usable = mail.is_usable and account is not None
        is_taken = account is not None and self.is_taken(mail.recipient, by_other_than=account)
        expect = 204 if is_usable and not is_taken else 400
        path = "/email-verifications/confirm"
        self.request("POST", path, json={"token": mail.code}, expect=expect)
        if account is None or expect != 204:
            return
        if mail.recipient == account.pending_email:
            self.write_mail(CHANGED, account.email, account)
            account.move_to(mail.recipient)
            account.pending_email = None
            self.void_mails(account, RESET)
        account.verify()
        self.void_mails(account, *VERIFICATIONS)

    @precondition(lambda self: self.undo_codes)
    @rule(mail=draw_from("undo_codes"))
    def undo_change(self, mail: Mail) -> None:
        account = mail.account
        is_usable = mail.is_usable and account is not None
        holder = self.find_account(mail.recipient)
        is_other = holder is not None and holder is not account
        is_taken = is_other and holder is not None and holder.verified_at is not None
        expect = 204 if is_usable and not is_taken else 400
        path = "/email-verifications/undo"
        self.request("POST", path, json={"token": mail.code}, expect=expect)
        if account is None or expect != 204:
            return
        if is_other and holder is not None:
            # An account without an address cannot be used.
            holder.is_deleted = True
            self.revoke_logins(holder)
        account.move_to(mail.recipient)
        account.pending_email = None
        self.void_mails(account, RESET, *VERIFICATIONS)
        for newer in self.mails[mail.number :]:
            newer.is_void |= newer.account is account and newer.kind in UNDO
        self.revoke_logins(account)

    @precondition(lambda self: len(self.codes) > 1)
    @rule(mail=draw_from("codes"), other=draw_from("codes"))
    def misuse_codes(self, mail: Mail, other: Mail) -> None:
        """Send a code to the wrong routes, or the id of one with the digest of another to all."""
        paths = {
            "/password-resets/confirm": (RESET,),
            "/email-verifications/confirm": VERIFICATIONS,
            "/email-verifications/undo": UNDO,
        }
        spliced = f"{mail.code.partition('.')[0]}.{other.code.partition('.')[2]}"
        for path, kinds in paths.items():
            if other is not mail or mail.kind not in kinds:
                body = {"token": spliced, "new_password": PASSWORDS[0]}
                if RESET not in kinds:
                    del body["new_password"]
                self.request("POST", path, json=body, expect=400)

    # Administration, deletion, time.

    @rule(account=accounts, is_active=st.booleans())
    def set_active(self, account: Account, is_active: bool) -> None:
        """Activate or deactivate; activation revokes for good what deactivation suspended."""
        self.request_as_admin(f"/admin/users/{account.number}", {"is_active": is_active})
        if is_active and not account.is_active:
            self.revoke_logins(account)
        if account.is_active and not is_active:
            self.void_mails(account, RESET, *VERIFICATIONS)
            account.pending_email = None
        account.is_active = is_active

    @precondition(lambda self: len(self.current_accounts) == MAX_ACCOUNTS)
    @rule(login=logins, is_right=is_right)
    def delete_account(self, login: Login, is_right: bool) -> None:
        account = login.account
        body = {"current_password": account.password if is_right else WRONG_PASSWORD}
        expect = 204 if is_right else 400
        if self.request_as(login, "DELETE", "/users/me", json=body, expect=expect) and is_right:
            account.is_deleted = True
            self.revoke_logins(account)

    @rule(pause=st.sampled_from(2 * SHORT_PAUSES + LONG_PAUSES))
    def pass_time(self, pause: timedelta) -> None:
        self.clock.shift(pause)

    @rule()
    def hold_or_release_mails(self) -> None:
        """Let mails wait while other things happen, or deliver them."""
        self.is_mail_held = not self.is_mail_held

    @invariant()
    def deliver_and_check(self) -> None:
        if not self.is_mail_held:
            self.deliver_mails()
        self.check_state(share=0.2)
        self.clock.shift(SECOND)
