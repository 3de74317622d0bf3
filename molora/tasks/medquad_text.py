"""MedQuAD's questions and answers as plain text: tidied, shortened, and nothing kept that says nothing."""

from __future__ import annotations

import re

_ANSWER_CHARACTERS = 700
"""Longer answers end at their last whole sentence before this, so that a small model learns to finish."""

_LIST_ITEMS = 8
"""Longer lists end here: a small model that has started one goes on for as long as it may."""

_ELSEWHERE = re.compile(r"\s*(?:The Human Phenotype Ontology|These resources address).*", re.DOTALL)
"""Where an answer points to a table or to other pages instead of answering. Asked for symptoms, a small model that had
learned it would say nothing else."""

_KEY_POINTS = re.compile(r"^\s*(?:Key Points\s*-[^\n]*\n|Summary\s*:)")
"""What some sites put in front of an answer: a list of its points, all on one line, or a heading."""
_ECHO = re.compile(r"^[^.?!\n]{3,150}\?(?:\s+|$)")
"""The question, said again."""
_BULLET = re.compile(r"(?:^|\s{2,}|(?<=[:.]) )-\s+")
_ENDS = re.compile(r"[.!?](?=\s)|(?=\n)")
"""Where an answer may stop: after a sentence, or at the end of a line."""
_SAYS = re.compile(r"[.!](?:\s|$)|^- ", re.MULTILINE)
"""A sentence or a list; without either, an answer is a heading or a menu of its page."""
_BOOKLET = re.compile(r"(?i)\bwhat i need to know about ")


def plain_question(question: str) -> str:
    """ "what causes Asthma ?" -> "What causes Asthma?"."""
    text = _BOOKLET.sub("", " ".join(question.split())).replace(" ?", "?").replace("??", "?")
    text = text.replace("What is (are) ", "What is ").replace(" i ", " I ")
    return text[:1].upper() + text[1:] + ("" if text.endswith("?") else "?")


def plain_topic(focus: str) -> str:
    return _BOOKLET.sub("", " ".join(focus.split()))


def plain_answer(answer: str) -> str:
    """Tidied and shortened; "" if it does not answer."""
    text = shorten(_ELSEWHERE.sub("", _tidy(answer)))
    return text if _SAYS.search(text) else ""


def shorten(text: str, characters: int = _ANSWER_CHARACTERS) -> str:
    """At most so many characters, ending with a sentence or a line where there is one."""
    text = "\n- ".join(text.split("\n- ")[: _LIST_ITEMS + 1])
    if len(text) <= characters:
        return text
    ends = [match.end() for match in _ENDS.finditer(text, 0, characters)]
    return text[: ends[-1]] if ends else text[:characters].rsplit(" ", 1)[0]


def _tidy(answer: str) -> str:
    """Each item of a list on a line of its own; a list that comes again as prose is left out, with what follows."""
    lead, *items = _BULLET.split(_ECHO.sub("", _KEY_POINTS.sub("", answer)))
    lines = [" ".join(lead.split())]
    for item in filter(None, map(str.strip, items)):
        first, *after = re.split(r"\s{2,}", item, maxsplit=1)  # prose goes on after a wider gap
        lines += [f"- {' '.join(first.split())}", *(" ".join(part.split()) for part in after)]
    text = "\n".join(lines).strip()
    if len(lines) > 1 and len(item := lines[1][2:]) > 20 and (again := text.find(item, text.find(item) + 1)) > 0:
        text = text[:again].rstrip(" \n-")
    return text
