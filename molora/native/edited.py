"""A router of a model's own under an edit: the hook that makes the edit is there as long as the masks are."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from molora.config import ExpertSelection
from molora.edits import Masks
from molora.grid import Handle


class EditedRouter(ABC):
    """Subclasses say in `_hooked` where the edit is made."""

    selection: ExpertSelection = "top_k"
    generator: torch.Generator | None = None
    _masks: Masks | None = None
    _edit: Handle | None = None

    @property
    def masks(self) -> Masks | None:
        """An edit of the pass under way; None leaves the routing as it is."""
        return self._masks

    @masks.setter
    def masks(self, masks: Masks | None) -> None:
        if self._edit is not None:
            self._edit.remove()
        self._masks = masks
        self._edit = None if masks is None else self._hooked()

    @abstractmethod
    def _hooked(self) -> Handle:
        """Puts the edit before whatever else listens."""
