"""The strip: one button a token, its expert's colour, nothing that could run."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from molora.analysis import token_experts
from tests.fakes import fake_trace
from viz.figures.strip import token_strip
from viz.figures.style import visible

HOSTILE = ["<img src=x onerror=alert(1)>", "${alert(1)}", "{{alert(1)}}", "`", "</script>", '"><b>', "'", "&lt;"]


class Buttons(HTMLParser):
    """What a browser would find: tags, and each button's attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.found: list[dict[str, str | None]] = []
        self.inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "button":
            self.found.append(dict(attrs) | {"text": ""})
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "button"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1]["text"] = f"{self.found[-1]['text']}{data}"


def test_every_token_is_a_button_with_its_row_expert_and_phase() -> None:
    trace = fake_trace(12)
    buttons = Buttons(token_strip(trace)).found
    assert [button["data-t"] for button in buttons] == [str(row) for row in range(12)]
    for row, (button, expert) in enumerate(zip(buttons, token_experts(trace), strict=True)):
        assert f"e{expert}" in str(button["class"]).split()
        phase = "template" if row < 3 else "prompt" if row < 8 else "answer"
        assert button["title"] == f"w{row} · token {row}, {phase} · expert {expert}"
        assert ("t" in str(button["class"]).split()) == (row < 3)


def test_one_token_can_be_reached_with_the_tab_key() -> None:
    for selected in (None, 5):
        buttons = Buttons(token_strip(fake_trace(12), selected=selected)).found
        assert [button["data-t"] for button in buttons if button["tabindex"] == "0"] == [str(selected or 0)]
        pressed = [button["data-t"] for button in buttons if button.get("aria-pressed") == "true"]
        assert pressed == ([] if selected is None else ["5"])


def test_the_filter_hides_tokens_and_a_hidden_choice_loses_the_focus() -> None:
    buttons = Buttons(token_strip(fake_trace(12), show="answer", selected=4)).found
    assert [button["data-t"] for button in buttons] == ["8", "9", "10", "11"]
    assert buttons[0]["tabindex"] == "0"


def test_hostile_tokens_are_shown_and_nothing_else_becomes_of_them() -> None:
    parsed = Buttons(token_strip(fake_trace(HOSTILE, template=0, prompt=2)))
    assert set(parsed.tags) == {"style", "div", "button", "span"}
    assert [button["text"] for button in parsed.found] == HOSTILE
    for button, text in zip(parsed.found, HOSTILE, strict=True):
        assert str(button["title"]).startswith(text)
        assert set(button) <= {"type", "data-t", "class", "title", "tabindex", "text"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" ", "␣"),
        ("\n\n", "⏎⏎"),
        ("\t", "⇥"),
        (" word", "word"),
        ("  two", " two"),
        ("", "·"),
        (" " * 40, "␣␣␣␣␣␣…"),
        ("a\u202eb", "a<U+202E>b"),
        ("\x00", "<U+0000>"),
        ("哮喘", "哮喘"),
        ("👩\u200d⚕️", "👩\u200d⚕️"),
        ("line\n", "line⏎"),
    ],
)
def test_the_invisible_becomes_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_512_tokens_stay_small() -> None:
    assert len(token_strip(fake_trace(512, layers=30))) < 90_000
