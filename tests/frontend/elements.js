// Elements that several pages use.
import { API, call, makeKey, session } from "./api.js";

// Strings become text nodes.
export function el(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children.flat().filter(Boolean));
  return element;
}

// The address of a picture: those that were uploaded are relative to the API.
export const pictureAddress = address => address.startsWith("/media/") ? API + address : address;

// Return content_html or snippet, which the API sanitizes, as nodes. All other texts are plain. The policy of
// index.html has the browser refuse to parse any other string as HTML.
const createHTML = html => html;
const policy = window.trustedTypes?.createPolicy("sanitized-by-the-api", { createHTML }) ?? { createHTML };
export function sanitized(html) {
  const template = el("template");
  // The alignment of columns: the policy allows no attribute `style`.
  template.innerHTML = policy.createHTML(html.replace(/<(t[dh]) style="text-align: ?(\w+);?"/g, '<$1 align="$2"'));
  for (const name of ["src", "href", "poster"]) {
    template.content.querySelectorAll(`[${name}^="/media/"]`).forEach(element =>
      element.setAttribute(name, pictureAddress(element.getAttribute(name))));
  }
  template.content.querySelectorAll("[srcset]").forEach(element =>
    element.setAttribute("srcset", element.getAttribute("srcset").split(", ").map(pictureAddress).join(", ")));
  template.content.querySelectorAll('[href^="#"]').forEach(element => { element.onclick = followFragment; });
  return template.content;
}

// Scroll to the place in the text that a link names. The fragment of the page stays: it is the route.
function followFragment(event) {
  event.preventDefault();
  // Unlike decodeURIComponent, it accepts any text.
  const query = this.getAttribute("href").slice(1).replace(/[+&]/g, encodeURIComponent);
  const name = new URLSearchParams(`name=${query}`).get("name");
  const place = document.getElementById(name) || document.getElementsByName(name)[0];
  if (place) place.scrollIntoView();
  else if (!name || name === "top") scrollTo(0, 0);
}

// A picture that cannot be loaded, such as one that was removed, is not shown.
export const picture = (address, alt, className) => address && el("img", {
  className, alt: alt || "", loading: "lazy", referrerPolicy: "no-referrer",
  onerror() { this.remove(); }, src: pictureAddress(address) });
export const avatar = ({ avatar_url }) => picture(avatar_url, "", "avatar");

export const link = (path, text, className = "") => el("a", { href: `#/${path}`, className }, text);
export const linkAuthor = author => link(`author/${author.username}`, [avatar(author), author.name]);
export const heading = text => el("h1", {}, text);
export const paragraph = (text, className = "") => el("p", { className }, text);
export const note = text => paragraph(text, "note");
export const actions = (...children) => el("div", { className: "actions" }, ...children);
export const showDate = (time, timeStyle) => new Date(time).toLocaleString("en", { dateStyle: "medium", timeStyle });
export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
export const showNotice = text => { document.querySelector("#notice").textContent = text; };

export function button(text, className, act) {
  return el("button", { type: "button", className, async onclick() {
    this.disabled = true;
    showNotice("");
    try { await act(this); } catch (error) { showNotice(error.message); } finally { this.disabled = false; }
  } }, text);
}
// A button for what cannot be undone: it has to be pressed twice.
export function dangerButton(text, question, act) {
  const element = button(text, "danger", async () => {
    if (element.classList.toggle("sure")) element.textContent = question;
    else await act();
  });
  element.onblur = () => { element.classList.remove("sure"); element.textContent = text; };
  return element;
}

// A button that is on after PUT and off after DELETE, with all others of the same path.
function toggle(path, isOn, on, off) {
  const element = button("", "", async () => {
    const isNowOn = element.getAttribute("aria-pressed") === "false";
    await call(isNowOn ? "PUT" : "DELETE", path);
    document.querySelectorAll(`[data-path="${path}"]`).forEach(other => other.draw(isNowOn));
  });
  element.dataset.path = path;
  element.draw = isOn => Object.assign(element, { ariaPressed: isOn, textContent: isOn ? on : off });
  return element.draw(isOn);
}
export const followButton = ({ id }, marks) => marks && id !== session?.id
  && toggle(`/users/me/following/${id}`, marks.followed.has(id), "Following", "Follow");
export const bookmarkButton = ({ id }, marks) => marks
  && toggle(`/users/me/bookmarks/${id}`, marks.bookmarked.has(id), "Bookmarked", "Bookmark");

// A form with fields [name, label, attributes], or other elements; `submit` gets their values and a key for retries.
export function makeForm(fields, action, submit, className = "") {
  const error = el("p", { className: "error", role: "alert" });
  const sender = el("button", {}, action);
  let key = makeKey();
  const oninput = () => { key = makeKey(); };  // A key belongs to one body.
  const makeField = ([name, label, { tag = "input", options = [], ...more } = {}]) => {
    const field = el(tag, { name, ...more }, options.map(text => el("option", { value: text }, text || "any")));
    if (tag === "select") field.value = more.value || "";
    return el("label", {}, more.type === "checkbox" ? [field, label] : [label, field]);
  };
  return el("form", { className, oninput, async onsubmit(event) {
    event.preventDefault();
    error.textContent = "";
    sender.disabled = true;
    try { await submit(Object.fromEntries(new FormData(this)), key); }
    catch (problem) { error.textContent = problem.message; } finally { sender.disabled = false; }
  } }, fields.filter(Boolean).map(field => field instanceof Node ? field : makeField(field)), error, sender);
}
export const formPage = (title, fields, submit, ...more) => [heading(title), makeForm(fields, title, submit), ...more];

export const REQUIRED = { required: true };
export const PASSWORD = ["password", "Password", { ...REQUIRED, type: "password", autocomplete: "current-password" }];
