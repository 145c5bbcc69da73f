"""A browser page that shows untrusted HTML and records what the HTML executes or requests."""

from collections.abc import Sequence
from typing import Any

from tests.support.html import Attributes

Element = tuple[str, Attributes]

FRAME_FUNCTIONS = """
// Record calls of functions that an attack would call.
const record = (view) => {
    view.ran = view.ran || [];
    for (const name of ["pwn", "alert", "confirm", "prompt", "print", "open", "fetch"]) {
        view[name] = () => { view.ran.push(name); };
    }
    // Do not follow links: only their execution is an error.
    view.addEventListener("click", (event) => {
        const link = event.target.closest && event.target.closest("a[href], area[href]");
        const followed = ["http:", "https:", "mailto:", "tel:"];
        if (link && followed.includes(link.protocol)) event.preventDefault();
    }, true);
    view.addEventListener("submit", (event) => {
        if (event.isTrusted) view.ran.push("submit");
        event.preventDefault();
    }, true);
};
// Trigger the event handlers of all elements.
const trigger = (view) => {
    const types = [
        "animationend", "animationstart", "auxclick", "beforeinput", "blur", "change",
        "contextmenu", "copy", "cut", "dblclick", "drag", "error", "focus", "focusin", "input",
        "keydown", "keyup", "load", "mousedown", "mouseenter", "mousemove", "mouseover",
        "mouseup", "paste", "pointerdown", "pointerenter", "pointermove", "pointerover",
        "pointerup", "scroll", "submit", "toggle", "touchstart", "transitionend", "wheel",
    ];
    for (const element of view.document.querySelectorAll("*")) {
        // Without a script, only an attribute handles events.
        for (const type of element.attributes.length ? types : []) {
            const Kind = type.startsWith("mouse") ? view.MouseEvent : view.Event;
            element.dispatchEvent(new Kind(type, {bubbles: true, cancelable: true}));
        }
        if (element.focus) element.focus();
        if (element.click) element.click();
    }
};
// Return what ran, and elements that take the place of variables and methods (DOM clobbering).
const collect = (view) => ["x", "y", "z", "attributes", "cookie", "createElement"].filter((name) =>
    [view.document.getElementById(name), view.document[name], view[name]].some((one) =>
        one instanceof view.Element || one instanceof view.HTMLCollection)
).map((name) => `named: ${name}`).concat(view.ran.splice(0));
const listElements = (view) => [...view.document.body.querySelectorAll("*")].map((element) => [
    element.namespaceURI === "http://www.w3.org/1999/xhtml" ? element.localName : element.tagName,
    Object.fromEntries([...element.attributes].map((one) => [one.name, one.value])),
]);
const wait = () => new Promise((done) => setTimeout(done, 20));
"""
RECORD_CALLS = f"() => {{ {FRAME_FUNCTIONS} record(window); }}"
# Shows each of many texts as the whole page of a frame of its own, and triggers events in all.
SHOW = f"""
async (pages) => {{
    {FRAME_FUNCTIONS}
    const frames = pages.map((html) => {{
        const frame = document.createElement("iframe");
        frame.style = "position: fixed; inset: 0; width: 100%; height: 100%";
        document.body.append(frame);
        const view = frame.contentWindow;
        const loaded = new Promise((done) => {{ frame.onload = done; }});
        record(view);
        view.document.open();
        // It removed the listeners.
        record(view);
        view.document.write(html);
        view.document.close();
        return {{frame, view, loaded}};
    }});
    await Promise.all(frames.map(({{loaded}}) => loaded));
    // A page that replaced itself has no document that others may read.
    const shown = frames.filter(({{frame}}) => frame.contentDocument && frame.contentDocument.body);
    const elements = shown.flatMap(({{view}}) => listElements(view));
    shown.forEach(({{view}}) => trigger(view));
    await wait();
    const events = frames.map(({{frame, view}}) =>
        frame.contentDocument ? collect(view) : ["left the page"]).concat(collect(window));
    return [elements, events.flat()];
}}
"""
# Inserts HTML into the page, as scripts of a page do. Parses it in several ways, and its
# serialization again, as a mutation attack requires.
INSERT = f"""
async (fragments) => {{
    {FRAME_FUNCTIONS}
    const insert = (text) => {{
        const detached = document.implementation.createHTMLDocument("");
        for (const _ of [1, 2]) {{
            const box = detached.createElement("div");
            box.innerHTML = text;
            text = box.innerHTML;
            document.body.append(document.adoptNode(box));
        }}
        const parsed = new DOMParser().parseFromString(text, "text/html").body;
        document.body.append(...document.adoptNode(parsed).childNodes);
        const template = document.createElement("template");
        template.innerHTML = text;
        document.body.append(template.content.cloneNode(true));
        for (const parent of ["li", "td", "summary"]) {{
            const box = document.createElement(parent);
            box.innerHTML = text;
            document.body.append(box);
            text = box.innerHTML;
        }}
    }};
    fragments.forEach(insert);
    const elements = listElements(window);
    trigger(window);
    await wait();
    return [elements, collect(window)];
}}
"""


class RecordingPage:
    """A page without a content security policy; `events` has what happened since the last reset."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.events: list[str] = []

    async def open(self) -> None:
        await self.page.route("**/*", self.respond)
        self.page.on("dialog", self.dismiss)
        self.page.on("popup", lambda page: self.events.append("popup"))
        self.page.on("pageerror", lambda error: self.events.append(f"error: {error}"))
        self.page.on("download", lambda download: self.events.append("download"))
        await self.reset()

    async def reset(self) -> None:
        await self.page.goto("http://blog.example/")
        await self.page.evaluate(RECORD_CALLS)
        self.events.clear()

    async def respond(self, route: Any) -> None:
        request = route.request
        if request.url == "http://blog.example/" and request.resource_type == "document":
            await route.fulfill(body="<!doctype html><p>", content_type="text/html")
            return
        if request.resource_type not in ("image", "media"):
            self.events.append(f"{request.resource_type}: {request.url}")
        await route.abort()

    async def dismiss(self, dialog: Any) -> None:
        self.events.append("dialog")
        await dialog.dismiss()

    async def show(self, pages: Sequence[str]) -> list[Element]:
        """Show each text as the whole page of a frame of its own; return the elements of all.

        An event does not tell its page: show the pages one by one to find it.
        """
        return await self.evaluate(SHOW, pages)

    async def insert(self, fragments: Sequence[str]) -> list[Element]:
        """Insert HTML into the page, as scripts of a page do; return all elements."""
        return await self.evaluate(INSERT, fragments)

    async def evaluate(self, script: str, texts: Sequence[str]) -> list[Element]:
        elements, events = await self.page.evaluate(script, [*texts])
        shown = [self.page.main_frame]
        if script is SHOW:
            shown = shown[0].child_frames
        self.events += events
        self.events += [f"frame: {one.url}" for parent in shown for one in parent.child_frames]
        await self.page.evaluate("document.body.replaceChildren()")
        return [(tag, attributes) for tag, attributes in elements]
