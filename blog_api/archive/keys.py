"""Keys of front matter in the ecosystem, and the fields of a post that they fill.

Keys are compared without regard to case, hyphens and underscores. The first that has a value wins.
"""

from blog_api.archive.visibility import EXPIRY_KEYS, HIDING_KEYS, TIME_KEYS

FIELD_KEYS = {
    "title": ("title",),
    "slug": ("slug",),
    "slug_given": ("sluggiven",),
    "author": ("author", "authors"),
    "author_key": ("authorkey",),
    "taken_down_at": ("takendownat",),
    "updated_at": (
        "updatedat", "lastmod", "updated", "updatedon", "updateddate", "updatedate", "dateupdated",
        "modified", "modifieddate", "datemodified", "lastmodified", "lastmodifiedat",
        "lastupdated", "moddatetime",
    ),
    "summary": ("summary", "excerpt", "description"),
    "cover_url": (
        "coverurl", "cover", "coverimage", "image", "featuredimage", "featureimage", "featured",
        "heroimage", "banner", "thumbnail", "thumb", "ogimage", "images",
    ),
    "cover_alt": ("coveralt", "coverimagealt", "imagealt", "heroimagealt", "alt"),
    "canonical_url": ("canonicalurl", "canonical"),
    "comments_open": ("commentsopen", "comments"),
    "content_type": ("contenttype",),
}  # fmt: skip
# All of these count, in this order: what is too much is dropped from the end.
TAG_KEYS = ("tags", "tag", "categories", "category")
# Old addresses of the post.
ADDRESS_KEYS = (
    "oldslugs",
    "permalink",
    "url",
    "path",
    "aliases",
    "alias",
    "redirectfrom",
    "oldurl",
)
# Mappings that have fields of the post: of Zola, of Hugo and of themes.
NESTED_KEYS = ("taxonomies", "extra", "params")
KNOWN_KEYS = {
    *HIDING_KEYS, *TIME_KEYS, *EXPIRY_KEYS, *TAG_KEYS, *ADDRESS_KEYS, "lang", "created",
    *(key for keys in FIELD_KEYS.values() for key in keys),
}  # fmt: skip
