"""The colours of the experts, the same everywhere; greys for all else.

Weight is lightness of the expert's own hue; entropy is a scale of one hue that no expert has.
"""

from __future__ import annotations

import colorsys
from functools import lru_cache

OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000")
"""Told apart with every common colour blindness (Okabe and Ito, "Color Universal Design", 2008). Black comes last."""

ENTROPY = ("#f4f1fa", "#d9cfee", "#b6a1dc", "#9071c4", "#6a45a5", "#472480", "#2a0f57")
"""Certain is light, uniform is dark; lightness falls evenly."""

STRENGTH = "#8257C0"
"""Full end of the scale of sizes."""

LESS, MORE = "33,102,172", "178,24,43"
"""Ends of the diverging scale, blue and red (Brewer's RdBu), as red, green, blue."""

MISSING = "rgba(0,0,0,0)"
"""Where no router has run."""

Stops = list[tuple[float, str]]


@lru_cache
def expert_colours(num_experts: int) -> tuple[str, ...]:
    """One "#RRGGBB" an expert: Okabe-Ito's eight, then evenly spaced hues in three lightnesses."""
    extra = max(num_experts - len(OKABE_ITO), 0)
    hues = []
    for number in range(extra):
        # Neighbours in hue differ in lightness too, so that 120 of them can still be told apart.
        red, green, blue = colorsys.hls_to_rgb(number / extra, (0.36, 0.52, 0.68)[number % 3], 0.62)
        hues.append(_hex(red * 255, green * 255, blue * 255))
    return (OKABE_ITO + tuple(hues))[:num_experts]


def text_colour(background: str) -> str:
    """Black or white, whichever stands out more on "#RRGGBB"; always a contrast of 4.5 or more (WCAG 2.2, AA)."""
    return "#000000" if contrast(background, "#000000") >= contrast(background, "#FFFFFF") else "#FFFFFF"


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2, "relative luminance")."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def weight_levels(num_experts: int) -> int:
    """How many lightnesses an expert has; fewer for many experts, so that the scale stays small."""
    return 6 if num_experts <= 16 else 4


def lightened(colour: str, share: float) -> str:
    """The colour for a weight between 0 (a pale tint) and 1 (the full colour)."""
    keep = 0.22 + 0.78 * share
    return _hex(*(255 - (255 - part) * keep for part in _rgb(colour)))


def discrete_scale(colours: list[str]) -> Stops:
    """A Plotly colour scale of flat steps: code n of zmin = -0.5, zmax = len - 0.5 gets colours[n]."""
    size = len(colours)
    return [(edge / size, colour) for step, colour in enumerate(colours) for edge in (step, step + 1)]


def entropy_scale() -> Stops:
    return [(step / (len(ENTROPY) - 1), colour) for step, colour in enumerate(ENTROPY)]


def strength_scale() -> Stops:
    """For sizes from none to most in one hue that no expert has, from faint to full, which suits light and dark.

    Strength grows with the root of the size, so that many small ones can be told apart beside a few large ones.
    """
    red, green, blue = _rgb(STRENGTH)
    return [((step / 10) ** 2, f"rgba({red},{green},{blue},{0.07 + 0.093 * step:.3f})") for step in range(11)]


def diverging_scale() -> Stops:
    """For differences: blue is less, red is more, none is clear, which suits light and dark; set cmin = -cmax."""
    return [(0, f"rgba({LESS},1)"), (0.5, f"rgba({LESS},0)"), (0.5, f"rgba({MORE},0)"), (1, f"rgba({MORE},1)")]


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _hex(red: float, green: float, blue: float) -> str:
    return f"#{round(red):02X}{round(green):02X}{round(blue):02X}"


def _luminance(colour: str) -> float:
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (value / 255 for value in _rgb(colour))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
