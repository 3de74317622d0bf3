"""Reads the page's own files: css, js, example questions."""

from __future__ import annotations

import json
from pathlib import Path

import plotly

_ROOT = Path(__file__).parent.parent / "assets"

PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
"""The plotly.js that belongs to the installed plotly.py; it comes with the package, so nothing is fetched."""


def css(name: str = "page") -> str:
    """The text of assets/css/<name>.css."""
    return (_ROOT / "css" / f"{name}.css").read_text(encoding="utf-8")


def js(name: str) -> str:
    """The text of assets/js/<name>.js."""
    return (_ROOT / "js" / f"{name}.js").read_text(encoding="utf-8")


def example_questions(reads_chinese: bool) -> list[str]:
    """English questions, and Chinese ones where the model reads them."""
    questions: dict[str, list[str]] = json.loads((_ROOT / "examples.json").read_text(encoding="utf-8"))
    return questions["en"] + (questions["zh"] if reads_chinese else [])
