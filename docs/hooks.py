"""A hook of MkDocs.

`<!-- face PART -->` in a page becomes the names in the stub of that part's lazy face. So a page of the API lists what
the part exports today, without a second list to keep. And numbers stay in one line with their percent signs.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def exported(part: str) -> list[str]:
    """The public names of a part, in the order of its stub; none where its face is not lazy."""
    stub = ROOT.joinpath(*part.split("."), "__init__.pyi")
    return re.findall(r"import \w+ as (\w+)", stub.read_text(encoding="utf-8")) if stub.exists() else []


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by MkDocs with the text of each page."""

    def listing(found: re.Match[str]) -> str:
        names = exported(found[1])
        return f"::: {found[1]}" + (f"\n    options: {{members: [{', '.join(names)}]}}" if names else "")

    markdown = re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", markdown)
    return re.sub(r"<!-- face (\S+) -->", listing, markdown)
