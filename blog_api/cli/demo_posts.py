"""People and texts of the blog that the command `demo` creates.

Together the posts have every element of Markdown that the renderer supports; one is HTML.
"""

from dataclasses import dataclass

from blog_api.text.markdown import HTML, MARKDOWN, ContentType

MIRA, TOMAS, LIN = "Mira Holm", "Tomas Reyes", "Lin Okafor"


@dataclass(frozen=True)
class Person:
    name: str
    email: str
    bio: str


@dataclass(frozen=True)
class DemoComment:
    author: str
    content: str
    answers: "tuple[DemoComment, ...]" = ()


@dataclass(frozen=True)
class DemoPost:
    """A post that is published `days` after the command runs; None for a draft."""

    author: str
    days: int | None
    title: str
    tags: tuple[str, ...]
    content: str
    content_type: ContentType = MARKDOWN
    summary: str | None = None
    cover_url: str | None = None
    cover_alt: str | None = None
    comments: tuple[DemoComment, ...] = ()


PEOPLE = (
    Person(MIRA, "mira@example.com", "Walks, keeps bees and writes about both."),
    Person(TOMAS, "tomas@example.com", "Programmer. Small tools, plain text, old bicycles."),
    Person(LIN, "lin@example.com", "Bakes bread and measures everything twice."),
)

# Follower and author.
FOLLOWS = ((MIRA, TOMAS), (MIRA, LIN), (TOMAS, LIN), (LIN, MIRA))

# Oldest first, so that ids grow with the times.
POSTS = (
    DemoPost(
        MIRA,
        -40,
        "A Walk around the Lake",
        ("walks", "nature"),
        """\
The path around the lake takes **three hours**, or *a whole day* if you stop for everything
that is worth it. I did ***both*** this spring.

## What to bring

- [x] Water, because the spring at the chapel is dry
- [x] Something to eat
  - bread
  - cheese, which
    1. does not melt
    2. does not smell
- [ ] A map on paper

## The way

1. From the station down to the shore
2. Left, along the reeds
3. Over the wooden bridge

![The wooden bridge in the fog](https://example.com/bridge.jpg "Before eight in the morning")

> The lake is never the same twice.
>
> > Nor are your shoes.

The boat runs ~~daily~~ at weekends. Its [timetable](https://example.com/boat "Boats") hangs at
the pier.[^boat]

[^boat]: And at https://example.com/boat.
""",
        summary="Three hours along the shore, with a wooden bridge and a boat back.",
        cover_url="https://example.com/lake.jpg",
        cover_alt="A lake between hills, in the morning",
        comments=(
            DemoComment(
                LIN,
                "Is the bridge open again?",
                (
                    DemoComment(
                        MIRA,
                        "Since March. It is still without a handrail on one side.",
                        (DemoComment(LIN, "Then I take the long way, thank you."),),
                    ),
                    DemoComment(TOMAS, "I crossed it by bicycle. Do not do that."),
                ),
            ),
            DemoComment(TOMAS, "The boat takes bicycles, by the way."),
        ),
    ),
    DemoPost(
        TOMAS,
        -33,
        "Count Words in Ten Lines",
        ("python", "tools"),
        """\
Which words do I use too often? The standard library is enough to find out.

```python
import re
import sys
from collections import Counter

text = sys.stdin.read().casefold()
words = Counter(re.findall(r"\\w+", text))
for word, count in words.most_common(10):
    print(f"{count:6} {word}")
```

Call it with a pipe:

```sh
cat posts/*.md | python3 count.py
```

`casefold()` is `lower()` for more languages than one: `"Straße".casefold()` is `"strasse"`.

### What it prints

    142 the
     97 a
     61 lake

An indented block, as above, has no language. Press <kbd>Ctrl</kbd>+<kbd>D</kbd> to end the input
if you type it yourself.
""",
        comments=(
            DemoComment(
                MIRA,
                "61 times lake? I feel caught.",
                (DemoComment(TOMAS, "Your posts were the only long texts that I had."),),
            ),
        ),
    ),
    DemoPost(
        LIN,
        -25,
        "Bread in Numbers",
        ("bread", "tables"),
        """\
All amounts are *baker's percentages*: flour is 100 %, and the rest follows.

| Ingredient | Percent | For one loaf |
| :--- | :---: | ---: |
| Flour | 100 | 500 g |
| Water | 70 | 350 g |
| Sourdough | 20 | 100 g |
| Salt | 2 | 10 g |

## Steps

1. Mix flour and water, and wait for an hour.

   The dough becomes elastic by itself: *autolysis*.
2. Add sourdough and salt.
3. Fold every 30 minutes:
   - pull up one side,
   - fold it over,
   - turn the bowl.
4. Bake at 230 °C for 40 minutes.

---

**Remember:** ~~a loaf is done when it is brown~~ a loaf is done at 96 °C inside.
""",
        summary="Sourdough bread as a table of percentages, in four steps.",
        cover_url="https://example.com/bread.jpg",
        cover_alt="A round loaf with a dark crust",
        comments=(
            DemoComment(MIRA, "Mine stays flat. Too much water?"),
            DemoComment(
                TOMAS,
                "A table, finally. Does it work with rye?",
                (DemoComment(LIN, "Up to a third of the flour. More needs a tin."),),
            ),
        ),
    ),
    DemoPost(
        TOMAS,
        -17,
        "Plain Text Lasts",
        ("tools", "writing"),
        """\
# Why I keep notes in plain text

Every program that I wrote notes with is gone. The notes in plain text are still here.

Why a heading inside?
---------------------

Because Markdown has two kinds of them. Both are older than most formats that wanted to replace
them.

> Programs come and go; a file stays.

Three rules are enough:

* one note, one file;
* a name that a search finds, such as `2026-bees.md`;
* no format that needs *one* program.

The grammar is on [commonmark.org][spec], and mail still works: <tomas@example.com>.
A line that ends with a backslash\\
breaks there.

[spec]: https://commonmark.org/help/ "Markdown in ten minutes"
""",
    ),
    DemoPost(
        MIRA,
        -9,
        "Über Bienen: a Year with Bees",
        ("nature", "bees"),
        """\
The title shows how letters of other alphabets become a slug. The rest is about bees.

### Spring

They fly from 10 °C on. Count them for a minute at the entrance:

| Month | Bees a minute |
| --- | ---: |
| March | 12 |
| April | 48 |
| May | 160 |

### Summer

A colony drinks about 200 ml of H<sub>2</sub>O a day: have some near.

<details><summary>What about honey?</summary>

Two glasses, *after* the bees had theirs.

</details>

### Winter

Leave them alone. [Lin's bread](https://example.com/bread) helps with waiting.
""",
        comments=(DemoComment(LIN, "Two glasses for two loaves? I would trade."),),
    ),
    DemoPost(
        LIN,
        -2,
        "Measure Twice",
        ("bread", "tools"),
        """\
<p>A kitchen scale costs less than <em>three</em> failed loaves. Mine shows <code>0.1 g</code>
steps, which is <strong>too fine</strong> for flour and just right for salt.</p>
<ol>
  <li>Put the bowl on the scale.</li>
  <li>Press <em>tare</em>.</li>
  <li>Add, read, add again.</li>
</ol>
""",
        content_type=HTML,
    ),
    DemoPost(
        MIRA,
        7,
        "The Lake in Winter",
        ("walks",),
        """\
This post is *scheduled*: only its author sees it before its time comes.

> Ice carries a person from ten centimetres on. Ask first.
""",
    ),
    DemoPost(
        TOMAS,
        None,
        "Notes on a Small Editor",
        ("tools", "drafts"),
        """\
This post is a **draft**: only its author sees it, until it has a time of publication.

- [Ideas](https://example.com/ideas)
- ~~Write it in one evening~~
""",
    ),
)

# People by the title of the post.
BOOKMARKS = {
    "Count Words in Ten Lines": (MIRA,),
    "Bread in Numbers": (MIRA, TOMAS),
    "A Walk around the Lake": (LIN,),
}
