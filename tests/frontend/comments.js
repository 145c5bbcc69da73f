// Threads of comments, and their approval.
import { call, get, request, session } from "./api.js";
import { REQUIRED, button, dangerButton, el, link, linkAuthor, makeForm, note, showDate } from "./elements.js";
import { show } from "./router.js";

// Approve a comment, or withdraw that. If its text has changed since it was shown, do nothing.
async function decide(comment, method, admin) {
  const path = `${admin.token ? "/admin" : ""}/comments/${comment.id}`;
  const { data, etag } = await request("GET", path, admin);
  if (data.content !== comment.content) {
    await show();
    throw new Error("The comment has been changed: read it again.");
  }
  await call(method, `/comments/${comment.id}/approval`, { ...admin, etag });
}

// Buttons of a moderator: the author of the post, or an administrator with the token in `admin`.
export function moderationButtons(comment, admin = {}) {
  const [text, method] = comment.is_approved ? ["Withdraw approval", "DELETE"] : ["Approve", "PUT"];
  return [button(text, "quiet", () => decide(comment, method, admin).then(show)), deleteButton(comment, admin)];
}
const deleteButton = ({ id }, admin = {}) => dangerButton("Delete", "Really delete?", () =>
  call("DELETE", `${admin.token ? "/admin" : ""}/comments/${id}`, admin).then(show));

export async function listComments(post) {
  const list = el("div");
  const more = button("More comments", "quiet", () => load(`?cursor=${more.cursor}`));
  const load = async query => {
    const { results, next_cursor: cursor } = await get(`/posts/${post.id}/comments${query}`);
    list.append(...results.map(thread => showThread(post, thread)));
    Object.assign(more, { cursor, hidden: !cursor });
  };
  await load("");
  if (!post.comments_open) return [list, more, note("Comments on this post are closed.")];
  return [list, more, session ? commentForm(post, null) : link("log-in", "Log in to comment")];
}

// Answers come in depth-first order, so that indentation nests them.
function showThread(post, { answers, ...first }) {
  const showAll = comments => comments.map(comment => showComment(post, comment));
  const thread = el("div", {}, showAll([first, ...answers]));
  const shown = answers.filter(answer => answer.is_approved).length;
  if (answers.reduce((sum, answer) => sum + answer.answer_count, first.answer_count) > shown) {
    thread.append(button("All answers", "quiet", async () =>
      thread.replaceChildren(...showAll([first, ...(await get(`/comments/${first.id}/answers?size=100`)).results]))));
  }
  return thread;
}

// The text and the facts of a comment; `more` belongs to the facts.
export const describeComment = (comment, ...more) => [
  el("div", { className: "meta" }, comment.author && linkAuthor(comment.author), showDate(comment.created_at), more),
  el("p", {}, comment.content ?? "This comment was deleted.")];

function showComment(post, comment) {
  const isOwn = session && comment.author?.id === session.id;
  const isOnOwnPost = post.author.id === session?.id;
  const answer = button("Answer", "quiet", self => self.replaceWith(commentForm(post, comment.id)));
  const waiting = isOwn ? "Waits for approval: others do not see it yet." : "Waits for your approval.";
  const element = el("div", { className: comment.is_approved ? "comment" : "comment waiting" },
    describeComment(comment), !comment.is_approved && note(waiting),
    session && !comment.is_deleted && el("div", { className: "actions" },
      post.comments_open && comment.is_approved && comment.depth < 8 && answer,
      isOnOwnPost && !comment.is_approved ? moderationButtons(comment)
        : (isOwn || isOnOwnPost) && deleteButton(comment)));
  element.style.setProperty("--indent", `${comment.depth * 1.5}rem`);
  return element;
}

function commentForm(post, parent_id) {
  const field = ["content", parent_id ? "Your answer" : "Your comment", { ...REQUIRED, tag: "textarea", rows: 3 }];
  return makeForm([field], "Send", ({ content }, key) =>
    call("POST", `/posts/${post.id}/comments`, { json: { content, parent_id }, key }).then(show));
}
