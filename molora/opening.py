"""A trace out of bytes that anyone may have sent: bounded in size, and every number what the figures can draw.

`RoutingTrace.load` trusts a file's sizes and names, as it is the user's own; here nothing is trusted. Knows numpy only.
"""

from __future__ import annotations

import io
import re
import zipfile

import numpy as np

from molora.errors import MoloraError
from molora.trace import RoutingTrace

MAX_BYTES = 64 * 2**20
"""Of a file as it is sent."""
MAX_UNPACKED_BYTES = 160 * 2**20
"""Of all its arrays: 32,768 tokens through 96 routers of 8 experts have 140 MB."""
MAX_TOKENS, MAX_ROUTERS, MAX_EXPERTS, MAX_TOKEN_CHARACTERS = 32_768, 4096, 512, 1000
MAX_CANDIDATES = 20

_ZIP = b"PK\x03\x04"
_PROJECTION = re.compile(r"[\w.-]{1,40}", re.ASCII)


class _Named(io.BytesIO):
    """Bytes that messages call by the file's name."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self._name = name

    def __str__(self) -> str:
        return self._name


def is_npz(content: bytes) -> bool:
    return content.startswith(_ZIP)


def open_trace(content: bytes, name: str) -> RoutingTrace:
    """The trace in the bytes of a `.npz`; `name` is what messages call it.

    Raises MoloraError for what is no trace, for one beyond the limits above, and for numbers and names that no trace
    of a model has.
    """
    name = name[:80]
    if len(content) > MAX_BYTES:
        raise MoloraError(f"{name} has {len(content) >> 20} MB; up to {MAX_BYTES >> 20} MB can be opened.")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            unpacked = sum(part.file_size for part in file.infolist())
    except (zipfile.BadZipFile, ValueError, OverflowError, RuntimeError, OSError) as error:  # zipfile: all of these
        raise MoloraError(f"{name} is no trace, or is damaged ({error}). Save it again.") from error
    if unpacked > MAX_UNPACKED_BYTES:
        raise MoloraError(f"{name} holds {unpacked >> 20} MB; up to {MAX_UNPACKED_BYTES >> 20} MB can be opened.")
    trace = RoutingTrace.load(_Named(content, name))
    _check(trace, name)
    return trace


def _check(trace: RoutingTrace, name: str) -> None:
    texts = [*trace.token_text, *trace.candidate_text.values()]
    for what, size, most in (
        ("tokens", len(trace), MAX_TOKENS),
        ("routers", trace.num_layers * len(trace.projections), MAX_ROUTERS),
        ("experts", trace.num_experts, MAX_EXPERTS),
        ("experts a token", trace.top_k, trace.num_experts),
        ("characters in a token", max(map(len, texts), default=0), MAX_TOKEN_CHARACTERS),
        ("candidates a token", trace.candidate_ids.shape[1], MAX_CANDIDATES),
        ("texts of candidates", len(trace.candidate_text), MAX_TOKENS * MAX_CANDIDATES),
    ):
        if size > most:
            raise MoloraError(f"{name} has {size:,} {what}; up to {most:,} can be opened.")
    layers = trace.layer_indices
    if len(np.unique(layers)) != len(layers) or (layers < 0).any():
        raise MoloraError(f"{name} names its layers {layers[:8].tolist()}; each has its own number from 0 on.")
    projections = trace.projections
    if len(set(projections)) != len(projections) or not all(map(_PROJECTION.fullmatch, projections)):
        raise MoloraError(f"{name} has projections without plain names of their own, such as gate_proj.")
    if not np.isfinite(trace.expert_weights).all() or np.isinf(trace.router_logits).any():
        raise MoloraError(f"{name} has weights or logits that are no numbers.")
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise MoloraError(f"{name} has half a character in its token texts.") from error
