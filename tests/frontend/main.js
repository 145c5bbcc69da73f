// The pages of accounts, and the header.
import { call, endSession, get, mayWrite, postPublic, refreshAccount, session, setSession, startSession }
  from "./api.js";
import { PASSWORD, REQUIRED, actions, avatar, button, el, formPage, heading, link, linkAuthor, makeForm, showDate }
  from "./elements.js";
import { notAnAuthor, pictureShelf } from "./pictures.js";
import { pages, show } from "./router.js";
import "./posts.js";
import "./moderation.js";

const EMAIL = ["Email", { ...REQUIRED, type: "email", autocomplete: "username" }];
const NEW_PASSWORD = { ...PASSWORD[2], autocomplete: "new-password" };

// A page for a code from a mail: pasted, or the end of a link, #/page/code.
const codePage = (title, path, leave, ...fields) => async code => {
  if (code) history.replaceState(null, "", location.hash.replace(/\/[^/]*$/, ""));  // Keep it out of the history.
  const codeField = ["token", "Code from the mail, which may take a minute", { ...REQUIRED, value: code || "" }];
  return formPage(title, [codeField, ...fields], json => postPublic(path, { json }).then(leave));
};

// The picture of the account: uploaded by authors, or at another address.
function avatarForm(me) {
  const save = avatar_url => call("PATCH", "/users/me", { json: { avatar_url: avatar_url || null } }).then(show);
  const attributes = { value: me.avatar_url || "", maxLength: 2048 };
  const form = makeForm([["avatar_url", "Address of a picture, empty: none", attributes]], "Save",
    ({ avatar_url }) => save(avatar_url));
  const shelf = el("div");
  const section = el("article", {}, el("h2", {}, avatar(me), "Your picture"), shelf, form);
  const uses = [["Use as your picture", ({ url }) => save(url)]];
  shelf.replaceWith(mayWrite(me) ? pictureShelf(section, uses) : notAnAuthor());
  return section;
}

Object.assign(pages, {
  "log-in": async () => formPage("Log in", [["username", ...EMAIL], PASSWORD],
    async values => startSession(await postPublic("/auth", { body: new URLSearchParams(values) })),
    link("reset-password", "Forgot your password?")),
  "sign-up": async () => formPage("Sign up", [["name", "Name", REQUIRED], ["email", ...EMAIL],
    ["password", "Password", NEW_PASSWORD]],
    async json => startSession((await postPublic("/sign-up", { json })).token)),
  "reset-password": async () => formPage("Reset your password", [["email", ...EMAIL]],
    json => postPublic("/password-resets", { json }).then(() => { location.hash = "#/new-password"; })),
  // A new password and an undone address end all sessions.
  "new-password": codePage("Set a new password", "/password-resets/confirm", () => setSession(null),
    ["new_password", "New password", NEW_PASSWORD]),
  "undo-email": codePage("Undo the new address", "/email-verifications/undo", () => setSession(null)),
  "verify-email": codePage("Confirm your address", "/email-verifications/confirm", () => setSession(session)),
  async account() {
    const [me, { results }] = await Promise.all([refreshAccount(), get("/users/me/sessions?size=100")]);
    const act = (text, method, path, json) => button(text, "quiet", () => call(method, path, { json }).then(show));
    const status = me.email_verified_at && !me.pending_email ? [" is confirmed"] : [" is not confirmed",
      link("verify-email", "Enter the code"), act("Mail a new code", "POST", "/email-verifications", {})];
    return [heading("Account"), actions(me.pending_email || me.email, status), avatarForm(me),
      el("h2", {}, "Where you are logged in"), ...results.map(({ id, client, network, created_at, is_current }) =>
        el("article", {}, client || "Unknown program", actions(
          `${network}, since ${showDate(created_at, "short")}`, el("span", { className: "right" }),
          is_current ? "this session" : act("Log out there", "DELETE", `/users/me/sessions/${id}`)))),
      results.length > 1 && act("Log out everywhere else", "DELETE", "/users/me/sessions")];
  },
});

function drawAccount() {
  document.querySelector("#account").replaceChildren(...(session
    ? [...(mayWrite(session) ? [link("write", "Write"), link("my-posts", "My posts"),
        link("moderation/comments?state=waiting", "Moderation")] : []),
      link("bookmarks", "Bookmarks"), link("account", "Account"), linkAuthor(session),
      button("Log out", "quiet", endSession)]
    : [link("log-in", "Log in"), link("sign-up", "Sign up")]));
}
addEventListener("session", drawAccount);

document.querySelector("#search").onsubmit = event => {
  event.preventDefault();
  location.hash = `#/?${new URLSearchParams(new FormData(event.target))}`;
};
drawAccount();
show();
