// Lists of posts, a post, and the editor.
import { call, encode, get, getPublic, mayWrite, refreshAccount, request, session } from "./api.js";
import { REQUIRED, actions, avatar, bookmarkButton, button, count, dangerButton, el, followButton, heading, link,
  linkAuthor, makeForm, note, paragraph, picture, sanitized, showDate } from "./elements.js";
import { listComments } from "./comments.js";
import { notAnAuthor, pictureShelf, toMarkdown } from "./pictures.js";
import { pages, show } from "./router.js";

export const PAGE_SIZE = 10;

// Which of these posts and authors the user has bookmarked and follows: two requests for a page.
async function getMarks(posts, authors) {
  if (!session) return null;
  const listIds = async (path, rows) => new Set(rows.length === 0 ? [] : (
    await get(path + [...new Set(rows.map(row => row.id))])).results.map(row => row.id));
  const [bookmarked, followed] = await Promise.all([
    listIds("/users/me/bookmarks?body=none&ids=", posts),
    listIds("/users/me/following?ids=", authors.filter(author => author.id !== session.id)),
  ]);
  return { bookmarked, followed };
}

const describeDate = ({ published_at }) => published_at ? showDate(published_at) : "Draft";

function describePost(post, marks) {
  const facts = [describeDate(post), `${post.reading_minutes} min read`, count(post.comment_count, "comment")];
  const tags = post.tags.map(tag => link(`?tag=${encodeURIComponent(tag)}`, tag, "tag"));
  return [el("p", { className: "meta" }, linkAuthor(post.author), facts.map(fact => el("span", {}, fact))),
    actions(tags, el("span", { className: "right" }), followButton(post.author, marks), bookmarkButton(post, marks))];
}
const cover = post => picture(post.cover_url, post.cover_alt, "cover");

function summarizePost(post, marks) {
  const [meta, buttons] = describePost(post, marks);
  return el("article", { className: "summary" }, cover(post), el("h2", {}, link(`post/${post.slug}`, post.title)), meta,
    el("p", {}, post.snippet ? sanitized(post.snippet) : post.summary), buttons);
}

// The marks and elements of a page of posts. `here` is its address without filters.
async function listPosts(read, path, { q = "", tag = "", cursor = "", page = "" }, here, authors = []) {
  const { results, next_cursor, total_count } = await read(
    `${path}?${encode({ body: "none", size: PAGE_SIZE, q, tag, cursor, page })}`);
  const marks = await getMarks(results, [...authors, ...results.map(post => post.author)]);
  // Search results have page numbers instead of cursors.
  const nextPage = q && (page || 1) * PAGE_SIZE < total_count && Number(page || 1) + 1;
  const linkPage = (more, ...rest) => link(`${here}?${encode({ q, tag, ...more })}`, ...rest);
  return [marks, [(q || tag) && heading(q ? `Search: ${q}` : `Tag: ${tag}`),
    ...(results.length ? results.map(post => summarizePost(post, marks)) : ["No posts."]),
    actions((cursor || page) && linkPage({}, "« First page"),
      (next_cursor || nextPage) && linkPage({ cursor: next_cursor, page: nextPage }, "Next page »", "right"))]];
}

async function showPost(path) {
  const post = await get(path);
  const [marks, comments] = await Promise.all([getMarks([post], [post.author]), listComments(post)]);
  const [meta, buttons] = describePost(post, marks);
  return [el("article", {}, heading(post.title), meta, cover(post), el("div", {}, sanitized(post.content_html)),
    buttons,
    post.author.id === session?.id && mayWrite(session) && actions(link(`write/${post.slug}`, "Edit"),
      button(post.comments_open ? "Close comments" : "Open comments", "quiet", () =>
        call("PATCH", `/posts/${post.id}`, { json: { comments_open: !post.comments_open } }).then(show)))),
    el("h2", {}, "Comments"), ...comments];
}

const toJSON = ({ title, content, summary, slug, tags, cover_url, cover_alt, comments_open }) => ({
  title, content, summary: summary || null, slug: slug || null, cover_url: cover_url || null,
  cover_alt: cover_alt || null, comments_open: Boolean(comments_open),
  tags: tags.split(",").map(tag => tag.trim()).filter(Boolean) });

// The editor of a new post, or of one of the user's posts.
async function edit(slug) {
  const me = await refreshAccount();
  if (!mayWrite(me)) return [heading("Write"), notAnAuthor()];
  const { data: post, etag } = slug ? await request("GET", `/posts/slug/${slug}`) : { data: { comments_open: true } };
  const preview = el("div");
  const values = { ...post, tags: (post.tags || []).join(", ") };
  const isMarkdown = post.content_type !== "text/html";
  const field = (name, label, more) => [name, label, { value: values[name] ?? "", ...more }];
  const shelf = el("div");
  const form = makeForm([
    field("title", "Title", { ...REQUIRED, maxLength: 255 }),
    field("content", isMarkdown ? "Text in Markdown" : "Text in HTML", { ...REQUIRED, tag: "textarea", rows: 12 }),
    shelf,
    field("summary", "Summary (default: the beginning of the text)", { maxLength: 300 }),
    field("tags", "Tags, separated by commas"),
    field("slug", "Slug (default: made from the title)", { pattern: "[a-z0-9]+(-[a-z0-9]+)*", maxLength: 100 }),
    field("cover_url", "Cover: address of a picture", { maxLength: 2048, onchange: () => drawCover() }),
    field("cover_alt", "Cover: alternative text", { maxLength: 300 }),
    preview,
    ["comments_open", "Comments open", { type: "checkbox", checked: post.comments_open }],
  ], slug ? "Save" : "Publish", async (changed, key) => {
    const [before, json] = [toJSON(values), toJSON(changed)];
    // Send what has changed: a summary or a slug that was made from the text goes on following it.
    if (slug) Object.keys(json).forEach(name => `${json[name]}` === `${before[name]}` && delete json[name]);
    const saved = await (slug ? call("PATCH", `/posts/${post.id}`, { json, etag })
      : call("POST", "/posts", { json, key }));
    location.hash = `#/post/${saved.slug}`;
  });
  const inputs = form.elements;
  const drawCover = () => preview.replaceChildren(...[picture(inputs.cover_url.value, "", "cover")].filter(Boolean));
  const change = act => media => { act(media); form.dispatchEvent(new Event("input")); };  // Another body, another key.
  const insert = change(media => {
    const { selectionStart, selectionEnd } = inputs.content;
    inputs.content.setRangeText(toMarkdown(media), selectionStart, selectionEnd, "end");
    inputs.content.focus();
  });
  const setCover = change(({ url, alt }) => {
    Object.assign(inputs.cover_url, { value: url });
    Object.assign(inputs.cover_alt, { value: alt || "" });
    drawCover();
  });
  shelf.replaceWith(pictureShelf(form, [isMarkdown && ["Insert", insert], ["Use as cover", setCover]].filter(Boolean)));
  drawCover();
  return [heading(slug ? "Edit" : "Write"), form, slug && dangerButton("Delete the post", "Really delete it?", () =>
    call("DELETE", `/posts/${post.id}`, { etag }).then(() => { location.hash = "#/my-posts"; }))];
}

Object.assign(pages, {
  "": async (_, filters) => (await listPosts(getPublic, "/posts", filters, ""))[1],
  bookmarks: async (_, filters) =>
    [heading("Bookmarks"), ...(await listPosts(get, "/users/me/bookmarks", filters, "bookmarks"))[1]],
  async author(username, filters) {
    const profile = await getPublic(`/users/username/${username}`);
    const [marks, posts] = await listPosts(
      getPublic, `/users/${username}/posts`, filters, `author/${username}`, [profile]);
    const facts = [`@${profile.username}`, count(profile.post_count, "post"), `since ${showDate(profile.created_at)}`];
    return [el("article", {}, heading([avatar(profile), profile.name].filter(Boolean)),
      el("p", { className: "meta" }, facts.join(" · ")), paragraph(profile.bio || ""),
      followButton(profile, marks)), ...posts];
  },
  async "my-posts"(_, { cursor = "" }) {
    const { results, next_cursor } = await get(`/users/me/posts?${encode({ body: "none", size: PAGE_SIZE, cursor })}`);
    return [heading("My posts"), ...(results.length ? results.map(post => el("article", {},
      el("h2", {}, link(`post/${post.slug}`, post.title)),
      actions(describeDate(post), link(`write/${post.slug}`, "Edit")),
      post.taken_down_at && note(`An administrator took this post down. ${
        post.takedown_reason ? `Reason: ${post.takedown_reason}` : "No reason was given."}`))) : ["No posts."]),
      next_cursor && link(`my-posts?${encode({ cursor: next_cursor })}`, "Next page »")];
  },
  post: slug => showPost(`/posts/slug/${slug}`),
  "post-by-id": id => showPost(`/posts/${id}`),
  write: edit,
});
