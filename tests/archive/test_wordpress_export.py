"""Exports in WordPress' format, element by element."""

from pathlib import Path
from xml.etree import ElementTree

from sqlalchemy import URL

from blog_api.archive.jsonl import write_jsonl
from blog_api.archive.record import PostRecord
from tests.support.commands import run_command

NAMES = {
    "http://wordpress.org/export/1.2/": "wp:",
    "http://wordpress.org/export/1.2/excerpt/": "excerpt:",
    "http://purl.org/rss/1.0/modules/content/": "content:",
    "http://purl.org/dc/elements/1.1/": "dc:",
}
PICTURE = f"/media/{'0' * 64}.png"
COMMENT = {"author": "Bob & <co>", "author_key": "b", "created_at": "2020-02-01T09:00:00.75Z"}
POST = PostRecord.model_validate(
    {
        "slug": "Привет_1.0",
        "title": "A & <b> ]]> ü",
        "author": "Анна",
        "author_key": "wordpress:https://a.example:anna",
        "published_at": "2020-01-31T09:00:00.25Z",
        "updated_at": "2021-01-31T09:00:00Z",
        "tags": ["C++", "News & more"],
        "old_slugs": ["old", "older"],
        "summary": "Short & <sharp>",
        "cover_url": PICTURE,
        "cover_alt": 'A "cover"',
        "canonical_url": "https://b.example/?a&b",
        "comments_open": False,
        "content": f"*Hello* ![x]({PICTURE})\n\n    a\n\n    # b\n",
        "comments": [
            COMMENT | {"content": "One\n\n<i>two</i> & ]]>"},
            COMMENT | {"author": None, "author_key": None, "parent": 1},
            COMMENT | {"content": "Answer", "parent": 2, "author": "Анна"},
            COMMENT | {"content": "Held", "parent": 3, "is_waiting": True},
        ],
    }
)
HIDDEN = {"author": "Анна", "author_key": POST.author_key, "slug": "hidden", "title": "Hidden"}
HTML = PostRecord.model_validate(
    HIDDEN | {"content_type": "text/html", "content": "<p>a<br>b</p>\n<pre>x\n\n  y</pre>"}
)
SCHEDULED = PostRecord.model_validate(
    HIDDEN | {"slug": "later", "content": "Soon", "published_at": "2099-01-01T00:00:00Z"}
)


def shorten(tag: str) -> str:
    address, _, name = tag.removeprefix("{").rpartition("}")
    return NAMES[address] + name if address else name


def read_values(element: ElementTree.Element) -> dict[str, str]:
    """Return the texts of the children that have no children, each of which is there once."""
    names = [shorten(child.tag) for child in element if not len(child) and not child.attrib]
    assert len(names) == len(set(names))
    return {shorten(child.tag): child.text or "" for child in element if not len(child)}


def find_all(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [child for child in element if shorten(child.tag) == name]


async def test_an_export_has_every_value_of_a_post_in_its_element(url: URL, tmp_path: Path):
    with (tmp_path / "in.jsonl").open("w") as file:
        for post in (POST, HTML, SCHEDULED):
            write_jsonl(file, post)
    await run_command("import", "in.jsonl")

    exported = await run_command("export", "out.xml")

    assert exported.exit_code == 0, exported.output
    (channel,) = ElementTree.parse(tmp_path / "out.xml").getroot()
    (author,) = map(read_values, find_all(channel, "wp:author"))
    cover, first, hidden, scheduled = find_all(channel, "item")
    assert author == {
        "wp:author_login": "anna", "wp:author_email": "", "wp:author_display_name": "Анна",
        "dc:identifier": POST.author_key,
    }  # fmt: skip
    cover_values = read_values(cover)
    assert cover_values["wp:post_type"] == "attachment"
    assert cover_values["wp:status"] == "inherit"
    assert cover_values["wp:attachment_url"] == PICTURE
    values = read_values(first)
    assert find_all(first, "category")[0].attrib == {"domain": "post_tag", "nicename": "c%2b%2b"}
    assert [one.text for one in find_all(first, "category")] == ["C++", "News &amp; more"]
    del values["category"]
    assert values == {
        # WordPress stores HTML in titles.
        "title": "A &amp; &lt;b&gt; ]]&gt; ü",
        "dc:creator": "anna",
        "dc:format": "text/html",
        "content:encoded": f'<p><em>Hello</em> <img src="{PICTURE}" alt="x"></p>\n'
        "<pre><code>a\n\n# b\n</code></pre>\n",
        "excerpt:encoded": "Short &amp; &lt;sharp&gt;",
        "wp:post_modified_gmt": "2021-01-31 09:00:00",
        "wp:comment_status": "closed",
        "wp:post_name": "%D0%9F%D1%80%D0%B8%D0%B2%D0%B5%D1%82_1.0",
        "wp:post_id": "2",
        "wp:post_date": "2020-01-31 09:00:00",
        "wp:post_date_gmt": "2020-01-31 09:00:00",
        "wp:ping_status": "closed",
        "wp:status": "publish",
        "wp:post_parent": "0",
        "wp:menu_order": "0",
        "wp:post_type": "post",
        "wp:post_password": "",
        "wp:is_sticky": "0",
    }
    metas = [read_values(one) for one in find_all(cover, "wp:postmeta")]
    metas += [read_values(one) for one in find_all(first, "wp:postmeta")]
    assert [(one["wp:meta_key"], one["wp:meta_value"]) for one in metas] == [
        ("_wp_attachment_image_alt", 'A "cover"'),
        ("_wp_old_slug", "old"),
        ("_wp_old_slug", "older"),
        ("_yoast_wpseo_canonical", "https://b.example/?a&b"),
        ("_thumbnail_id", cover_values["wp:post_id"]),
    ]
    comments = [read_values(one) for one in find_all(first, "wp:comment")]
    # The deleted one is left out, and its answer moves up.
    assert [
        (one["wp:comment_id"], one["wp:comment_parent"], one["wp:comment_approved"])
        for one in comments
    ] == [("1", "0", "1"), ("2", "1", "1"), ("3", "2", "0")]
    assert comments[0] == {
        "wp:comment_id": "1",
        "wp:comment_author": "Bob &amp; &lt;co&gt;",
        "dc:identifier": "b",
        "wp:comment_date": "2020-02-01 09:00:00",
        "wp:comment_date_gmt": "2020-02-01 09:00:00",
        "wp:comment_content": "One\n\n&lt;i&gt;two&lt;/i&gt; &amp; ]]&gt;",
        "wp:comment_approved": "1",
        "wp:comment_type": "comment",
        "wp:comment_parent": "0",
        "wp:comment_user_id": "0",
    }
    html, later = read_values(hidden), read_values(scheduled)
    assert html["content:encoded"] == HTML.content
    assert (html["wp:status"], html["wp:post_date_gmt"]) == ("draft", "0000-00-00 00:00:00")
    # WordPress schedules it for its date.
    assert (later["wp:status"], later["wp:post_date_gmt"]) == ("publish", "2099-01-01 00:00:00")
