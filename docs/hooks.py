"""A hook of MkDocs.

`<!-- face PART -->` in a page becomes the names in the stub of that part's lazy face. So a page of the API lists what
the part exports today, without a second list to keep. And numbers stay in one line with their percent signs.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def exported(part: str) -> list[str]:
    """The public names of a part, in the order of its stub."""
    stub = ROOT.joinpath(*part.split("."), "__init__.pyi").read_text(encoding="utf-8")
    return re.findall(r"import \w+ as (\w+)", stub)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by MkDocs with the text of each page."""

    def listing(found: re.Match[str]) -> str:
        part = found[1]
        return f"::: {part}\n    options: {{members: [{', '.join(exported(part))}]}}"

    markdown = re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", markdown)
    return re.sub(r"<!-- face (\S+) -->", listing, markdown)
