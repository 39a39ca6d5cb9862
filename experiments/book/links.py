"""Every internal link of the site leads somewhere: to a file that is there, and to a place on it."""

import re
from html.parser import HTMLParser
from pathlib import PurePosixPath
from urllib.parse import unquote


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [value for key in ("href", "src") if (value := values.get(key))]
        if values.get("id"):
            self.places.add(str(values["id"]))


def dead(pages: dict[str, str], files: set[str]) -> list[tuple[str, str]]:
    """(page, link) of every link that leads nowhere.

    Args:
      pages: address in the site -> HTML.
      files: further files of the site.
    """
    read = {address: _Page(text) for address, text in pages.items()}
    found = []
    for address, page in read.items():
        for link in page.links:
            if re.match(r"(data|https?|mailto):", link):
                continue
            path, _, place = link.partition("#")
            target = _joined(address, unquote(path)) if path else address
            if target in read:
                if place and unquote(place) not in read[target].places:
                    found.append((address, link))
            elif target not in files:
                found.append((address, link))
    return found


def _joined(page: str, link: str) -> str:
    parts: list[str] = []
    for part in (PurePosixPath(page).parent / link).parts:
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)
