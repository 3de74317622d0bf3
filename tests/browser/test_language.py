"""English and Chinese in a running page: switched without a reload, remembered, and each visitor's own."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, OpenPage
from tests.browser.steps import answered, ask
from tests.fakes import FakeEngine

TABS = {"map": "路由图", "token": "词元", "load": "负载", "edit": "干预", "compare": "对比", "atlas": "图谱"}

_SAME = (
    "MoLoRA Lens MING MOE EN CUDA GPU NMI Enter Shift Esc LoRA gate up down top python app py model BlueZeros fake "
    "float cpu demo npz csv json html svg png numpy softmax Top"
)
"""Names, keys and what is called the same in Chinese"""

_WORDS = """() => {
  const others = 'script, style, #strip button, .said, .example, .text, #selection, .token-title b, code';
  const seen = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (parent.closest(others) || !parent.checkVisibility({ visibilityProperty: true })) continue;
    seen.push(walker.currentNode.data);
  }
  for (const one of document.querySelectorAll('[aria-label], [placeholder]')) {
    if (one.closest(others + ', .modebar, #language') || !one.checkVisibility()) continue;
    seen.push(one.getAttribute('aria-label') ?? '', one.getAttribute('placeholder') ?? '');
  }
  return seen;
}"""


def english(page: Page, *also: str) -> set[str]:
    """English words that the page shows or names, outside of what models and visitors wrote."""
    known = {word for text in (_SAME, *also) for word in re.findall("[A-Za-z]+", text)}
    found = {word for text in page.evaluate(_WORDS) for word in re.findall("[A-Za-z]{2,}", text)}
    return {word for word in found if word not in known}


def switch(page: Page, send: str) -> None:
    page.click("#language")
    expect(page.locator("#send")).to_have_text(send)


def test_a_page_in_chinese_keeps_the_conversation_and_shows_no_english(open_stage: OpenPage, fake: FakeEngine) -> None:
    fake.play()
    page = open_stage()
    assert english(page)  # the same look finds English
    ask(page, "What is asthma?")
    answered(page)
    switch(page, "发送")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    said = page.locator("#log .said")
    expect(said).to_have_text(["What is asthma?", re.compile("It depends")])
    expect(page.locator("#log .who")).to_have_text(["你", "模型"])
    tasks = ("ask sort list find generation classification extraction",)
    for name in TABS.values():
        page.get_by_role("tab", name=name, exact=True).click()
        expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")
        page.wait_for_timeout(700)  # the figure comes with the tab
        assert english(page, *tasks) == set(), name
    page.click("#download")
    assert english(page, *tasks) == set()
    page.keyboard.press("Escape")
    page.click("#retry")
    page.get_by_role("tab", name="路由图", exact=True).click()
    answered(page)
    assert english(page) == set()
    switch(page, "Send")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(said.first).to_have_text("What is asthma?")
    expect(page.get_by_role("tab", name="Map", exact=True)).to_be_visible()


def test_what_is_chosen_stays_and_what_cannot_be_done_is_said_in_chinese(
    open_stage: OpenPage, fake: FakeEngine
) -> None:
    fake.play()
    page = open_stage()
    page.locator("#colour").get_by_text("entropy").click()
    page.locator("#projection").get_by_text("up", exact=True).click()
    page.locator("#language").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#send")).to_have_text("发送")
    expect(page.locator("#colour label.selected")).to_have_text("熵")
    expect(page.locator("#projection label.selected")).to_have_text("up")
    expect(page.locator("#layers input")).to_have_value("全部")
    page.click("#send")
    expect(page.locator("#notice")).to_have_text("请先输入问题。")
    ask(page, "Why?")
    answered(page)
    assert page.evaluate("() => document.querySelector('#map .js-plotly-plot').layout.yaxis.title.text") == "up"


def test_a_browser_that_prefers_chinese_starts_in_it_and_the_choice_is_remembered(open_stage: OpenPage) -> None:
    page = open_stage(locale="zh-CN")
    expect(page.locator("#send")).to_have_text("发送")
    expect(page.locator("#prompt textarea")).to_have_attribute("placeholder", "输入医学问题")
    switch(page, "Send")
    page.reload()
    expect(page.locator("#send")).to_have_text("Send")
    page.wait_for_timeout(1000)
    expect(page.locator("#send")).to_have_text("Send")


def test_ones_language_is_not_anothers(open_stage: OpenPage, fake: FakeEngine) -> None:
    one, other = open_stage(), open_stage()
    switch(one, "发送")
    fake.play()
    ask(other, "Why?")
    answered(other)
    expect(other.locator("#send")).to_have_text("Send")
    expect(other.locator("#log .who")).to_have_text(["You", "Model"])
    one.click("#retry")
    expect(one.locator("#notice")).to_have_text("还没有可以重新提问的问题。")
    other.click("#clear")
    other.click("#retry")
    expect(other.locator("#notice")).to_have_text("There is no question to ask again yet.")


def test_a_phone_has_room_for_the_chinese_words(open_stage: OpenPage) -> None:
    page = open_stage(viewport=PHONE, locale="zh-CN")
    expect(page.locator("#send")).to_have_text("发送")
    for name in TABS.values():
        expect(page.get_by_role("tab", name=name, exact=True)).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
