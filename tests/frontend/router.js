// Pages by their address: #/page/argument?filters. Other fragments belong to the text of a post.
import { el, showNotice } from "./elements.js";

export const pages = { __proto__: null };  // by the first part of their address

let shows = 0;
export async function show() {
  const turn = ++shows;
  const [path, query] = location.hash.slice(2).split("?");
  const [name, argument] = path.split("/");
  const elements = await (pages[name] || pages[""])(argument, Object.fromEntries(new URLSearchParams(query)))
    .catch(error => [el("p", { className: "error", role: "alert" }, error.message)]);
  // The user may have gone on to another page.
  if (turn === shows) document.querySelector("main").replaceChildren(...elements.flat().filter(Boolean));
}
addEventListener("hashchange", () => {
  showNotice("");
  if (location.hash.startsWith("#/")) show().then(() => scrollTo(0, 0));
});
