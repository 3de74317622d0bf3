"""A MING-MOE of a few thousand weights, for what is made from a shape."""

from __future__ import annotations

from molora.shapes import Shape

TINY = Shape("Qwen/Qwen1.5-Tiny-Chat", 2, 64, 128, 4, 320, context=1024, rank=4, alpha=8.0)
