"""Domains as A-labels (IDNA 2008)."""

import idna


def to_a_labels(domain: str) -> str:
    """Return the domain as A-labels in lower case; if it has none, as it is."""
    if domain.isascii():
        return domain.lower()
    try:
        labels = idna.uts46_remap(domain, std3_rules=False, transitional=False).split(".")
        return ".".join(one if one.isascii() else idna.alabel(one).decode() for one in labels)
    except idna.IDNAError:
        return domain
