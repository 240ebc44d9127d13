"""HTML snippets for the panel. Callers of `card` escape text from users and captures."""

import html
from collections.abc import Sequence


def card(content: str, size: float = 13.0, line: float = 1.45) -> str:
    """A block of HTML with the panel's margins.

    Args:
        content: HTML.
        size: font size, pixels.
        line: line height, relative to the font size.
    """
    style = f"font-size:{size:g}px;line-height:{line:g};padding:2px 12px;overflow-wrap:anywhere"
    return f'<div style="{style}">{content}</div>'


def note_html(text: str) -> str:
    """A sentence instead of a legend."""
    return card(html.escape(text), 12.5, 1.5)


def hint_html(text: str) -> str:
    """A faint sentence above controls."""
    return card(f'<span style="opacity:0.7">{html.escape(text)}</span>', 12.5)


def message_html(what: str, fix: str | None = None) -> str:
    """An error and its fix."""
    more = f'<br><span style="opacity:0.8">Try: {html.escape(str(fix))}</span>' if fix else ""
    return card(f'<div style="border-left:3px solid #e03131;padding-left:8px">{html.escape(what)}{more}</div>')


def legend_row(tint: Sequence[int], name: str, figure: str = "", faint: bool = False) -> str:
    """A row of a legend: colour, name, and a figure at the right."""
    shade = f"border:1px solid #888;background:rgb({', '.join(map(str, tint))})"
    box = f"flex:none;width:12px;height:12px;border-radius:3px;{shade}"
    row = f"display:flex;gap:8px;align-items:center;opacity:{0.45 if faint else 1}"
    return (
        f'<div style="{row}"><span style="{box}"></span><span style="flex:1">{html.escape(name)}</span>'
        f"<span style='opacity:0.7'>{figure}</span></div>"
    )
