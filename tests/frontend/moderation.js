// Moderation: comments on one's own posts, and everything for administrators.
import { adminToken, call, encode, get, mayWrite, session, setAdminToken } from "./api.js";
import { PASSWORD, actions, avatar, button, count, dangerButton, el, heading, link, makeForm, note, paragraph, picture,
  sanitized, showDate } from "./elements.js";
import { describeComment, moderationButtons } from "./comments.js";
import { pages, show } from "./router.js";

export const AUDIT_ACTIONS = [
  "activate-user", "deactivate-user", "make-admin", "dismiss-admin", "make-author", "dismiss-author",
  "open-account", "delete-user", "lift-ban", "set-password", "take-down-post", "restore-post", "delete-post",
  "delete-comment", "approve-comment", "withdraw-approval", "delete-media",
];
const COMMENT_STATE = ["state", "State", { tag: "select", options: ["", "waiting", "approved"] }];
const id = (name, label) => [name, `${label} #`, { type: "number", min: 1 }];

const callAsAdmin = (method, path, json) => call(method, path, { json, token: adminToken });
const act = (text, method, path, json) => button(text, "quiet", () => callAsAdmin(method, path, json).then(show));
const remove = (text, question, path) =>
  dangerButton(text, question, () => callAsAdmin("DELETE", path).then(show));

// A page of a list with its filters, which are fields of a form.
async function listFiltered(read, path, section, filters, fields, draw) {
  const here = `moderation/${section}`;
  const { results, next_cursor, total_count } = await read(`${path}${path.includes("?") ? "&" : "?"}${
    encode({ size: 20, ...filters })}`);
  const filled = fields.map(([name, label, more]) => [name, label, { ...more, value: filters[name] || "" }]);
  const form = makeForm(filled, "Filter", async values => { location.hash = `#/${here}?${encode(values)}`; },
    "filters");
  return [form, paragraph(`${count(total_count, "result")}.`, "meta"), ...results.map(draw), actions(
    filters.cursor && link(`${here}?${encode({ ...filters, cursor: "" })}`, "« First page"),
    next_cursor && link(`${here}?${encode({ ...filters, cursor: next_cursor })}`, "Next page »", "right"))];
}
const getAsAdmin = path => callAsAdmin("GET", path);

const showComment = admin => comment => el("article", {},
  describeComment(comment, link(`post-by-id/${comment.post_id}`, "on this post"),
    !comment.is_approved && "waits for approval"),
  actions(moderationButtons(comment, admin)));

const listOnOwnPosts = filters => listFiltered(
  get, "/users/me/posts/comments", "comments", filters, [COMMENT_STATE], showComment());

function showUser(user) {
  const roles = [user.is_admin && "administrator", user.is_author && "author", !user.is_active && "deactivated"];
  const path = `/admin/users/${user.id}`;
  return el("article", {}, el("h2", {}, avatar(user), link(`author/${user.username}`, user.name)),
    el("p", { className: "meta" }, `#${user.id}`, el("span", {}, user.email || "without address"),
      el("span", {}, roles.filter(Boolean).join(", ") || "no author"),
      link(`moderation/comments?user=${user.id}`, "Comments"),
      link(`moderation/pictures?user=${user.id}`, "Pictures"), link(`moderation/audit?user=${user.id}`, "Audit log")),
    user.id !== session.id && actions(
      user.is_active ? act("Deactivate, keep the posts", "PATCH", path, { is_active: false })
        : act("Activate", "PATCH", path, { is_active: true }),
      user.is_author ? act("Not an author any more", "PATCH", path, { is_author: false })
        : act("Make an author", "PATCH", path, { is_author: true }),
      remove("Delete with all contents", `Delete ${user.name} and all contents?`, path)));
}

function showPost(post) {
  const path = `/admin/posts/${post.id}`;
  const content = el("div");
  const read = button("Read", "quiet", async () => {
    content.replaceChildren(sanitized((await getAsAdmin(`${path}?body=html`)).content_html));
    read.remove();
  });
  const down = post.taken_down_at;
  return el("article", {}, el("h2", {}, post.title),
    el("p", { className: "meta" }, `#${post.id}`, link(`author/${post.author.username}`, post.author.name),
      el("span", {}, post.published_at ? showDate(post.published_at) : "Draft"),
      link(`moderation/audit?post=${post.id}`, "Audit log")),
    down && note(`Taken down ${showDate(down)}. ${post.takedown_reason ? `Reason: ${post.takedown_reason}` : ""}`),
    content, down ? act("Lift the takedown", "DELETE", `${path}/takedown`)
      : makeForm([["reason", "Reason, which the author sees", { maxLength: 300 }]], "Take down", ({ reason }) =>
        callAsAdmin("PUT", `${path}/takedown`, { reason: reason || null }).then(show)),
    actions(read, remove("Delete", "Delete for good?", path)));
}

const showPicture = media => el("article", { className: "picture" }, picture(media.url, media.alt, ""),
  el("p", { className: "meta" }, `#${media.id}`,
    link(`moderation/pictures?user=${media.user_id}`, `user #${media.user_id}`),
    el("span", {}, `${media.width} × ${media.height}, ${showDate(media.created_at)}`), el("span", {}, media.alt || "")),
  actions(remove("Remove", "Remove from all users, for good?", `/admin/media/${media.id}`)));

function showEntry(entry) {
  const targets = ["user", "post", "comment", "media"].filter(name => entry[`${name}_id`]).map(name => {
    const target = entry[`${name}_id`];
    return link(`moderation/audit?${name}=${target}`, `${name} #${target}`);
  });
  const by = entry.admin_id ? link(`moderation/audit?admin=${entry.admin_id}`, `by user #${entry.admin_id}`)
    : "at the command line";
  return el("article", {}, el("p", { className: "meta" }, showDate(entry.created_at, "short"),
    el("b", {}, entry.action), targets, by), entry.reason && paragraph(entry.reason));
}

const sections = { __proto__: null,
  comments: filters => listFiltered(getAsAdmin, "/admin/comments", "comments", filters,
    [COMMENT_STATE, ["q", "Text"], id("user", "User")], showComment({ token: adminToken })),
  users: async filters => [
    ...await listFiltered(getAsAdmin, "/admin/users", "users", filters, [["q", "Name or email address"]], showUser),
    el("h2", {}, "Bans"), paragraph("The address of a deactivated account stays banned when the account is deleted."),
    makeForm([["email", "Email address", { type: "email", required: true }]], "Lift the ban", json =>
      callAsAdmin("DELETE", "/admin/bans", json).then(show))],
  posts: filters => listFiltered(getAsAdmin, "/admin/posts?body=none", "posts", filters,
    [["state", "State", { tag: "select", options: ["", "draft", "scheduled", "published", "taken-down"] }]], showPost),
  pictures: filters => listFiltered(getAsAdmin, "/admin/media", "pictures",
    { ...filters, digest: filters.digest?.match(/[0-9a-f]{64}/)?.[0] ?? filters.digest },
    [["digest", "Address of a picture"], id("user", "User")], showPicture),
  audit: filters => {
    const toTime = time => time && new Date(time).toISOString();
    const time = (name, label) => [name, label, { type: "datetime-local" }];
    const read = path => {
      const [address, query] = path.split("?");
      const values = Object.fromEntries(new URLSearchParams(query));
      const [since, until] = [toTime(values.since), toTime(values.until)];
      return getAsAdmin(`${address}?${encode({ ...values, since, until })}`);
    };
    return listFiltered(read, "/admin/audit", "audit", filters, [
      ["action", "Action", { tag: "select", options: ["", ...AUDIT_ACTIONS] }],
      id("admin", "Administrator"), id("user", "User"), id("post", "Post"), id("comment", "Comment"),
      id("media", "Picture"), time("since", "Since"), time("until", "Until"),
    ], showEntry);
  },
};

pages.moderation = async (section = "comments", filters) => {
  const title = heading("Moderation");
  if (!session?.is_admin) {
    if (!mayWrite(session)) {
      return [title, note("Authors moderate the comments on their posts, administrators everything.")];
    }
    return [title, paragraph("Comments on your posts."), ...await listOnOwnPosts(filters)];
  }
  if (!adminToken) {
    // A session of its own, which nothing but this page uses: a stolen token of the blog cannot administrate.
    const unlock = async ({ password }) => {
      const body = new URLSearchParams({ username: session.email, password, scope: "admin" });
      setAdminToken((await call("POST", "/auth", { body, token: null })).access_token);
      await show();
    };
    return [title, paragraph("Confirm your password to administrate. Reloading the page ends it."),
      makeForm([PASSWORD], "Administrate", unlock)];
  }
  const stop = button("Stop administrating", "quiet right", async () => {
    await callAsAdmin("DELETE", "/auth");
    setAdminToken(null);
    await show();
  });
  const tabs = Object.keys(sections).map(name => {
    const tab = link(`moderation/${name}${name === "comments" ? "?state=waiting" : ""}`, name);
    if (name === section) tab.ariaCurrent = "page";
    return tab;
  });
  return [title, el("nav", { className: "actions tabs", ariaLabel: "Moderation" }, tabs, stop),
    ...await (sections[section] || sections.comments)(filters)];
};
