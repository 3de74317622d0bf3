"""Every word of the page has its Chinese, and figures drawn in Chinese hold no English."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from string import Formatter

import numpy as np
import plotly.graph_objects as go
import pytest

from molora.compare import compared
from molora.edits import RoutingEdit
from molora.effects import Effect
from molora.summary import summary
from molora.trace import RoutingTrace
from tests.fake_atlas import fake_atlas
from viz.figures.atlas import task_map
from viz.figures.compare import comparison_line, divergence_map
from viz.figures.conversation import conversation
from viz.figures.difference import text_difference
from viz.figures.edit_words import edit_words
from viz.figures.effects import sweep, token_changes
from viz.figures.expert import expert_chips, expert_layers, expert_tokens
from viz.figures.information import task_information
from viz.figures.legend import expert_legend
from viz.figures.load import expert_load
from viz.figures.map import routing_map
from viz.figures.mark import cell_words
from viz.figures.overview import overview
from viz.figures.place import task_place
from viz.figures.reading import token_readings
from viz.figures.strip import token_strip
from viz.figures.summary import summary_line
from viz.figures.token import token_title, token_weights
from viz.figures.words import summary_words
from viz.language import CATALOGUE, speaking, spoken, t, tn
from viz.panels.wording import in_language
from viz.report import report
from viz.session import Session

ROOT = Path(__file__).parents[2]
WORDS: dict[str, str] = json.loads(CATALOGUE.read_text(encoding="utf-8"))
NAMES = {"gate", "up", "down", "proj", "MoLoRA", "LoRA", "Lens", "NMI", "top", "softmax", "br", "extra", "nbsp"}
"""What is called the same in Chinese, and marks of HTML"""


def literals() -> Iterator[str]:
    """All that is given to t, tn and noted; only a name that `noted` has seen may stand for a literal."""
    for path in [*(ROOT / "viz").rglob("*.py"), ROOT / "app.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("t", "tn", "noted"):
                given = node.args[1] if node.func.id == "tn" else node.args[0]
                if isinstance(given, ast.Constant) and isinstance(given.value, str):
                    yield given.value
                else:
                    assert not isinstance(given, ast.JoinedStr), f"{path.name}: {ast.unparse(node)}"


def places(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in Formatter().parse(text) if name is not None)


def test_every_literal_has_its_chinese_and_the_catalogue_nothing_else() -> None:
    used = set(literals())
    assert used - set(WORDS) == set()
    assert set(WORDS) - used == set()


@pytest.mark.parametrize("literal", WORDS)
def test_a_translation_has_the_places_and_marks_of_its_literal(literal: str) -> None:
    assert places(WORDS[literal]) == places(literal)
    assert sorted(re.findall("<[^>]*>", WORDS[literal])) == sorted(re.findall("<[^>]*>", literal))
    assert literal == "NMI" or re.search("[\u3000-\u9fff\uff00-\uffef]|^{", WORDS[literal])


def test_words_follow_the_language_only_inside_of_it() -> None:
    assert (t("Send"), tn("{n} token", "{n} tokens", 1), tn("{n} token", "{n} tokens", 2)) == (
        "Send",
        "1 token",
        "2 tokens",
    )
    with speaking("zh"):
        assert (t("Send"), tn("{n} token", "{n} tokens", 1)) == ("发送", "1 个词元")
        assert t("not in the catalogue {at}", at=3) == "not in the catalogue 3"
        with speaking("en"):
            assert t("Send") == "Send"
        assert spoken() == "zh"
    assert spoken() == "en"


def test_handlers_speak_the_sessions_language_also_when_it_changes_between_two_steps() -> None:
    def steps(_session: Session) -> Iterator[str]:
        yield t("Send")
        yield t("Send")

    session = Session(language="zh")
    assert in_language(lambda _session: t("Send"))(session) == "发送"
    said = in_language(steps)(session)
    first, session.language = next(said), "en"
    assert (first, next(said), spoken()) == ("发送", "Send", "en")


def trace(edit: RoutingEdit | None = None) -> RoutingTrace:
    rng = np.random.default_rng(0)
    tokens, layers, experts = 6, 4, 8
    logits = rng.normal(size=(tokens, layers, 3, experts)).astype(np.float32)
    ids = np.argsort(-logits, axis=-1)[..., :2].astype(np.int16)
    return RoutingTrace(
        token_ids=np.arange(tokens, dtype=np.int32),
        token_text=[str(number) for number in range(tokens)],
        phase=np.array([0, 1, 1, 2, 2, 2], np.uint8),
        router_logits=logits,
        expert_ids=ids,
        expert_weights=np.full(ids.shape, 0.5, np.float32),
        layer_indices=np.arange(layers, dtype=np.int16),
        projections=("gate_proj", "up_proj", "down_proj"),
        meta={"edit": edit.to_dict()} if edit else {},
    )


EDIT = RoutingEdit.drop([3, 4, 7], [0, 1], ["up_proj"]) | RoutingEdit.uniform() | RoutingEdit.attention_off()
ATLAS = fake_atlas()
FOUND = compared(trace(EDIT), trace())

FIGURES: dict[str, Callable[[], go.Figure]] = {
    "atlas": lambda: task_map(ATLAS),
    "information": lambda: task_information(ATLAS),
    "place": lambda: task_place(ATLAS, None),
    "compare": lambda: divergence_map(FOUND),
    "changes": lambda: token_changes(["1"], np.ones(1, np.float32), edit="1"),
    "sweep": lambda: sweep([Effect(1, 1.0, np.ones(3, np.float32))], 4, where="1"),
    "expert": lambda: expert_layers(trace(EDIT), 1),
    "load": lambda: expert_load(trace()),
    "map": lambda: routing_map(trace(EDIT)),
    "weight map": lambda: routing_map(trace(), colour="weight"),
    "entropy map": lambda: routing_map(trace(), colour="entropy", show="prompt"),
    "overview": lambda: overview(trace()),
    "token": lambda: token_weights(trace(EDIT), 2),
    "glance": lambda: token_weights(trace(), 2, compact=True),
    "empty": lambda: token_weights(trace(), 99),
}

TEXTS: dict[str, Callable[[], str]] = {
    "line": lambda: comparison_line(FOUND),
    "conversation": lambda: conversation([("user", "1"), ("assistant", "2"), ("user", "3")], writing=True),
    "difference": lambda: text_difference("1", "1"),
    "edit": lambda: edit_words(trace(EDIT)),
    "tokens": lambda: expert_tokens(trace(), 1) + expert_chips(4, 1),
    "legend": lambda: expert_legend(4),
    "cell": lambda: cell_words(trace(), 1, (0, "up_proj")),
    "readings": lambda: "".join(token_readings(trace(), 3) + token_readings(trace(), 0)),
    "strip": lambda: token_strip(trace()),
    "summary": lambda: summary_line(trace(EDIT)),
    "title": lambda: token_title(trace(), 1),
    "words": lambda: " ".join(summary_words(summary(trace()), model="1", edit=edit_words(trace(EDIT)))),
}


def english(texts: list[str]) -> set[str]:
    return {word for text in texts for word in re.findall("[A-Za-z]{2,}", text)} - NAMES


def seen(html: str) -> list[str]:
    """What a reader sees or hears of it."""
    plain = re.sub("<style>.*?</style>", "", html)
    return [re.sub("<[^>]*>", " ", plain), *re.findall(r'(?:aria-label|title)="([^"]*)"', plain)]


def shown(drawn: go.Figure) -> list[str]:
    """Titles, notes, names and hover texts, without what a hover text takes from the data."""
    told = drawn.to_plotly_json()
    texts: list[str] = []

    def walk(part: object, key: str = "") -> None:
        if isinstance(part, dict):
            for name, inner in part.items():
                if name not in ("template", "customdata", "meta"):
                    walk(inner, name)
        elif isinstance(part, (list, tuple)):
            for inner in part:
                walk(inner, key)
        elif isinstance(part, str) and key in ("text", "hovertemplate", "name", "ticktext"):
            texts.append(re.sub(r"%{[^}]*}", "", part))

    walk({"data": told["data"], "layout": told["layout"]})
    return texts


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_in_chinese_holds_no_english(name: str) -> None:
    tasks = {word for text in (*ATLAS.tasks, *ATLAS.families) for word in re.findall("[A-Za-z]{2,}", text)}
    marks = {"token", "cell", "window"}  # names of shapes, which nobody sees
    with speaking("zh"):
        drawn = shown(FIGURES[name]())
    assert drawn
    assert english(drawn) - tasks - marks == set()
    assert english(shown(FIGURES[name]())) - tasks - marks - {"uniform"}  # the same check finds English


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_in_chinese_holds_no_english(name: str) -> None:
    with speaking("zh"):
        said = seen(TEXTS[name]())
    assert english(said) == set()
    assert english(seen(TEXTS[name]()))


def test_an_edit_is_said_from_its_rules_and_one_that_says_nonsense_as_it_stands() -> None:
    with speaking("zh"):
        assert edit_words(trace(EDIT)) == "去除专家 3-4, 7（层 0-1；up_proj）；等权重；去除注意力 LoRA"
        odd = trace(EDIT)
        odd.meta["edit"]["rules"] = [{"kind": ["drop"]}]
        assert edit_words(odd) == str(EDIT)
    assert edit_words(trace(EDIT)) == str(EDIT)
    assert [asdict(rule)["kind"] for rule in EDIT.rules] == ["drop", "uniform", "attention_off"]


def test_a_report_is_in_the_language_of_its_visitor() -> None:
    with speaking("zh"):
        page = report(trace(), [("user", "1")], selected=2)
    assert '<html lang="zh-CN">' in page
    assert "<h2>设置与版本</h2>" in page
    assert '<html lang="en">' in report(trace(), [("user", "1")])
