"""A browser page that shows untrusted HTML and records what the HTML executes or requests."""

from typing import Any

from tests.support.html import Attributes

# Records calls of functions that an attack would call.
RECORD_CALLS = """
() => {
    window.ran = [];
    for (const name of ["pwn", "alert", "confirm", "prompt", "print", "open", "fetch"]) {
        window[name] = () => { window.ran.push(name); };
    }
    // Do not follow links: only their execution is an error.
    window.addEventListener("click", (event) => {
        const link = event.target.closest && event.target.closest("a[href], area[href]");
        if (link && ["http:", "https:", "mailto:"].includes(link.protocol)) event.preventDefault();
    }, true);
    window.addEventListener("submit", (event) => {
        if (event.isTrusted) window.ran.push("submit");
        event.preventDefault();
    }, true);
}
"""
# Triggers the event handlers of all elements.
TRIGGER_EVENTS = """
async () => {
    const types = [
        "animationend", "animationstart", "auxclick", "beforeinput", "blur", "change",
        "contextmenu", "copy", "cut", "dblclick", "drag", "error", "focus", "focusin", "input",
        "keydown", "keyup", "load", "mousedown", "mouseenter", "mousemove", "mouseover",
        "mouseup", "paste", "pointerdown", "pointerenter", "pointermove", "pointerover",
        "pointerup", "scroll", "submit", "toggle", "touchstart", "transitionend", "wheel",
    ];
    for (const element of document.querySelectorAll("*")) {
        for (const type of types) {
            const Kind = type.startsWith("mouse") ? MouseEvent : Event;
            element.dispatchEvent(new Kind(type, {bubbles: true, cancelable: true}));
        }
        if (element.focus) element.focus();
        if (element.click) element.click();
    }
    await new Promise((done) => setTimeout(done, 20));
    // Elements that take the place of variables and methods (DOM clobbering).
    for (const name of ["x", "y", "z", "attributes", "cookie", "createElement"]) {
        const found = [document.getElementById(name), document[name], window[name]];
        if (found.some((one) => one instanceof Element || one instanceof HTMLCollection)) {
            window.ran.push(`named: ${name}`);
        }
    }
    return window.ran;
}
"""
LIST_ELEMENTS = """
() => [...document.body.querySelectorAll("*")].map((element) => [
    element.namespaceURI === "http://www.w3.org/1999/xhtml" ? element.localName : element.tagName,
    Object.fromEntries([...element.attributes].map((one) => [one.name, one.value])),
])
"""
# Parses HTML in several ways, and its serialization again, as a mutation attack requires.
INSERT_HTML = """
(text) => {
    const detached = document.implementation.createHTMLDocument("");
    for (const _ of [1, 2]) {
        const box = detached.createElement("div");
        box.innerHTML = text;
        text = box.innerHTML;
        document.body.append(document.adoptNode(box));
    }
    const parsed = new DOMParser().parseFromString(text, "text/html").body;
    document.body.append(...document.adoptNode(parsed).childNodes);
    const template = document.createElement("template");
    template.innerHTML = text;
    document.body.append(template.content.cloneNode(true));
    for (const parent of ["li", "td", "summary"]) {
        const box = document.createElement(parent);
        box.innerHTML = text;
        document.body.append(box);
        text = box.innerHTML;
    }
}
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
        if request.resource_type != "image":
            self.events.append(f"{request.resource_type}: {request.url}")
        await route.abort()

    async def dismiss(self, dialog: Any) -> None:
        self.events.append("dialog")
        await dialog.dismiss()

    async def show(self, html: str) -> list[tuple[str, Attributes]]:
        """Show HTML as the whole page; return its elements."""
        await self.page.evaluate("() => { window.ran = []; }")
        await self.page.set_content(html)
        # `set_content` removes the listeners.
        await self.page.evaluate(RECORD_CALLS.replace("window.ran = [];", ""))
        return await self.trigger_events()

    async def insert(self, fragments: list[str]) -> list[tuple[str, Attributes]]:
        """Insert HTML into the page, as scripts of a page do; return all elements."""
        for fragment in fragments:
            await self.page.evaluate(INSERT_HTML, fragment)
        return await self.trigger_events()

    async def trigger_events(self) -> list[tuple[str, Attributes]]:
        """Trigger the event handlers of all elements; return the elements."""
        elements = [
            (tag, attributes) for tag, attributes in await self.page.evaluate(LIST_ELEMENTS)
        ]
        self.events += await self.page.evaluate(TRIGGER_EVENTS)
        self.events += [f"frame: {frame.url}" for frame in self.page.frames[1:]]
        return elements
