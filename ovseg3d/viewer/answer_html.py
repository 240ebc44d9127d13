"""Answers as text and HTML for the panel. Phrases are escaped."""

import html

from ovseg3d.viewer.answers import Hit, PhraseAnswer, Reply
from ovseg3d.viewer.cards import card
from ovseg3d.viewer.layers import scale_html

SHOWN_HITS = 12
"""Most hits in the list, and with names in the scene."""


def sentence(answer: PhraseAnswer) -> str:
    """The answer to one phrase, as a sentence."""
    if not answer.present:
        better = f' The nearest match looks more like "{answer.alternative}".' if answer.alternative else ""
        return f'"{answer.phrase}" is not in this scene.{better}'
    count = len(answer.instances)
    instances = f"{count} instance{'s' if count != 1 else ''}, " if count else ""
    return f'"{answer.phrase}": {instances}{len(answer.points):,} points.'


def reply_html(reply: Reply) -> str:
    """Every phrase with its colour, and whether it is in the scene."""
    rows = []
    for answer, tint in zip(reply.answers, reply.tints.tolist()):
        mark = f"rgb({', '.join(map(str, tint))})" if answer.present else "transparent"
        box = (
            f"flex:none;margin-top:3px;width:12px;height:12px;border-radius:3px;border:1px solid #888;background:{mark}"
        )
        word = "score" if answer.probability is None else "probability"
        figures = f"{word} {answer.score:.2f}, threshold {answer.threshold:.2f}"
        place = f"<br>{html.escape(answer.relation)}" if answer.relation else ""
        rows.append(
            f'<div style="display:flex;gap:8px"><span style="{box}"></span><span>{html.escape(sentence(answer))}{place}'
            f'<br><span style="opacity:0.65">{figures}</span></span></div>'
        )
    sources = {answer.calibrated_by for answer in reply.answers} - {None}
    note = "Scores are not probabilities: no calibration holds for them." if not sources else ""
    note = "Calibrated by the labels of this run." if "labels" in sources else note
    return card("".join(rows) + (f'<div style="opacity:0.65">{note}</div>' if note else ""))


def hit_text(hit: Hit, name: str, unit: str) -> str:
    """The text of a hit's button: name, score and distance."""
    short = name if len(name) <= 18 else f"{name[:17]}…"
    away = "" if hit.instance.distance is None else f" · {hit.instance.distance:.1f} {unit} away"
    return f"{short} {hit.instance.score:.2f}{away}"


def hit_size(hit: Hit, unit: str) -> str:
    """The size of a hit's box."""
    return f"{' × '.join(f'{length:.2f}' for length in hit.instance.size)} {unit}"


def relevancy_html(reply: Reply, number: int, threshold: float) -> str:
    """The legend of a phrase's relevancy, with a mark at the threshold; `number` is its index in the question."""
    return scale_html(f'relevancy of "{reply.question.phrases[number]}"', "0", "1", threshold)
