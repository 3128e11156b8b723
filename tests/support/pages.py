"""The pages of the documentation: their texts, blocks, tables, headings and links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from support.commands import ROOT

FILES: Final = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
PAGES: Final = {file.relative_to(ROOT).as_posix(): file.read_text() for file in FILES}
"""The text of each page, by its path in the repository."""

BLOCKS: Final = [
    (page, language, text)
    for page, content in PAGES.items()
    for language, text in re.findall(r"^```(\w*)\n(.*?)^```$", content, re.MULTILINE | re.DOTALL)
]
"""The page, the language and the text of each block."""

NAMED: Final = {
    named[1]: text
    for _, _, text in BLOCKS
    if (named := re.match(r"(?:#|--) ([\w./-]+\.(?:toml|py|sql|yaml|ini))\n", text))
}
"""The files among the examples: each begins with a comment that is its name."""


def prose(page: str) -> str:
    """Return the text of a page without its blocks."""
    return re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)


def tables(text: str) -> list[list[list[str]]]:
    """Return the tables in a text of Markdown: their rows of cells, the header first."""
    found = []
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
        found.append([[cell.strip() for cell in line] for line in (lines[0], *lines[2:])])
    return found


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings in a text, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: str) -> list[str]:
    """Return the targets of the links and images of a page, without those to other sites."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in found if not re.match(r"https?:", target)]


def resolve(page: str, target: str) -> tuple[Path, str]:
    """Return the file and the anchor that a link of a page leads to."""
    file, _, anchor = target.partition("#")
    return ((ROOT / page).parent / file).resolve() if file else ROOT / page, anchor
