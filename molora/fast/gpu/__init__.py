"""The lean pass on a GPU: single tokens in some twenty kernels a layer, most in Triton, which torch for CUDA brings; of
many tokens those between the products.

`kernels.py` is what is computed, `fused.py` starts it for the linears that read one input, `step.py` is the pass.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from molora.fast.gpu.step import FusedStep

_log = logging.getLogger(__name__)


def fused_step(model: Any) -> FusedStep | None:
    """None, and a warning that says why, where Triton is missing or cannot make a kernel for the model's device."""
    try:
        from molora.fast.gpu.fused import normed
        from molora.fast.gpu.step import FusedStep

        weight = model.model.norm.weight
        with torch.cuda.device(weight.device), torch.inference_mode():
            normed(model.model.norm, torch.zeros_like(weight)[None])
    except Exception as error:  # whatever a compiler may say
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        _log.warning("Tokens are read without Triton's kernels, about half as fast: %s", reason)
        return None
    return FusedStep(model)
