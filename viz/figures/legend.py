"""The legend: each expert's number on its colour. Safe HTML, usable in a notebook."""

from __future__ import annotations

from viz.language import t
from viz.palette import expert_colours, text_colour

_MANY = 24


def expert_legend(num_experts: int) -> str:
    """HTML of one numbered swatch an expert; two lines of them, which scroll, where there are many."""
    box = (
        "display:inline-block;min-width:18px;padding:0 3px;margin-left:2px;border-radius:3px;text-align:center;"
        "font-size:11px;line-height:18px;box-shadow:inset 0 0 0 1px #8886"
    )
    swatches = "".join(
        f'<span style="{box};background:{colour};color:{text_colour(colour)}">{number}</span>'
        for number, colour in enumerate(expert_colours(num_experts))
    )
    label = t("Colours of experts 0 to {last}", last=num_experts - 1)
    if num_experts > _MANY:
        style = "display:inline-block;max-height:42px;overflow-y:auto;vertical-align:top;scrollbar-width:thin"
        return f'<span role="group" tabindex="0" aria-label="{label}" style="{style}">{t("expert")} {swatches}</span>'
    return f'<span role="img" aria-label="{label}">{t("expert")} {swatches}</span>'
