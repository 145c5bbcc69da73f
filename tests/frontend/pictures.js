// Upload of pictures: dropped, pasted or chosen, and a choice among those of the account.
import { call, encode, get, makeKey } from "./api.js";
import { actions, button, dangerButton, el, note, picture } from "./elements.js";

const NOT_AN_AUTHOR = "Your account may comment, bookmark and follow, but not write posts or upload pictures. " +
  "An administrator can make it the account of an author.";
export const notAnAuthor = () => note(NOT_AN_AUTHOR);

// A Markdown picture. The alternative text is one line.
export const toMarkdown = ({ alt, url }) => `![${(alt || "").replace(/[\\[\]*_`<>&!]/g, "\\$&")}](${url})`;

// An uploaded picture with its alternative text. `uses` are pairs of a label and a function of the picture.
function showUploaded(media, uses) {
  const alt = el("input", { value: media.alt || "", maxLength: 300, onkeydown(event) {
    if (event.key !== "Enter") return;
    event.preventDefault();  // Do not send the form around it.
    row.querySelector("button").click();
  } });
  const save = async () => {
    const text = alt.value.trim() || null;
    if (text !== (media.alt || null)) media = await call("PATCH", `/media/${media.id}`, { json: { alt: text } });
  };
  const row = el("div", { className: "picture" }, picture(media.url, media.alt, ""),
    el("label", {}, "Alternative text: what the picture shows", alt), actions(
      uses.map(([label, use]) => button(label, "quiet", async () => { await save(); await use(media); })),
      dangerButton("Delete", "Delete everywhere?", () =>
        call("DELETE", `/media/${media.id}`).then(() => row.remove()))));
  row.focusText = () => alt.focus();
  return row;
}

const PROBLEMS = { 413: "The picture is too large.", 415: "This is not a JPEG, PNG, GIF, WebP or AVIF picture." };

// Upload a file, and replace its row when it is stored.
async function upload(file, row, uses) {
  const progress = el("progress", { max: 1, value: 0, ariaLabel: `Uploading ${file.name}` });
  row.replaceChildren(`Uploading ${file.name}`, progress);
  const onprogress = part => { if (part < 1) progress.value = part; else progress.removeAttribute("value"); };
  try {
    const uploaded = showUploaded(await call("POST", "/media", { body: file, key: makeKey(), onprogress }), uses);
    row.replaceWith(uploaded);
    uploaded.focusText();
  } catch (error) {
    const problem = PROBLEMS[error.status] ?? error.message;
    row.replaceChildren(el("p", { className: "error", role: "alert" }, `${file.name}: ${problem}`),
      actions(button("Try again", "quiet", () => upload(file, row, uses)),
        button("Dismiss", "quiet", () => row.remove())));
  }
}

// Buttons and rows for pictures; files that are dropped or pasted onto `target` are uploaded, one at a time.
export function pictureShelf(target, uses) {
  const rows = el("div", { ariaLive: "polite" });
  let last = Promise.resolve();
  const accept = files => [...files].forEach(file => {
    const row = el("div", { className: "shelf" }, `Waiting: ${file.name}`);
    rows.append(row);
    last = last.then(() => upload(file, row, uses));
  });
  const hasFiles = ({ types }) => types.includes("Files");
  const mark = isOver => target.classList.toggle("dropping", isOver);
  target.addEventListener("dragover", event => hasFiles(event.dataTransfer) && mark(true));
  target.addEventListener("dragleave", () => mark(false));
  target.addEventListener("drop", ({ dataTransfer }) => { mark(false); accept(dataTransfer.files); });
  target.addEventListener("paste", event => {
    // Office programs add a picture of the text that they copy.
    if (!hasFiles(event.clipboardData) || event.clipboardData.types.includes("text/plain")) return;
    event.preventDefault();
    accept(event.clipboardData.files);
  });
  const chooser = el("input", { type: "file", accept: "image/*", multiple: true, onchange() {
    accept(this.files);
    this.value = "";
  } });
  let cursor = "";
  const older = button("Choose from your pictures", "quiet", async () => {
    const { results, next_cursor } = await get(`/users/me/media?${encode({ size: 10, cursor })}`);
    rows.append(...results.map(media => showUploaded(media, uses)));
    if (!cursor && results.length === 0) rows.append("You have no pictures yet.");
    cursor = next_cursor;
    Object.assign(older, { hidden: !cursor, textContent: "More of your pictures" });
  });
  return el("div", { className: "shelf" },
    el("label", {}, "Pictures: drop or paste them here, or choose files", chooser), older, rows);
}

// A file that is dropped elsewhere must not replace the page, and with it what was written.
for (const name of ["dragover", "drop"]) {
  addEventListener(name, event => event.dataTransfer.types.includes("Files") && event.preventDefault());
}
