"""What stands in a key file: of a node (``key.pub``, ``key.priv``) or of a user."""

from __future__ import annotations


def parse_tags(text: str) -> dict[str, str]:
    """Tag -> value of every line ``tag: value``; other lines, such as the title, are passed over."""
    lines = [line.partition(":") for line in text.splitlines()]
    return {tag.strip(): value.strip() for tag, colon, value in lines if colon}
