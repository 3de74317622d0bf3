"""Hooks on a method of one object, for routing that no module's forward pass shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

MethodHook = Callable[[tuple[Any, ...], Any], Any]
"""(arguments, result) -> another result, or None to leave it"""


class Handles(NamedTuple):
    """Several hooks that go together."""

    parts: tuple[Any, ...]

    def remove(self) -> None:
        for part in self.parts:
            part.remove()


class MethodHandle:
    """Takes one hook off again; the last one takes the stand-in off the object, too."""

    def __init__(self, owner: Any, name: str, hook: MethodHook) -> None:
        self._owner, self._name, self._hook = owner, name, hook

    def remove(self) -> None:
        hooks = vars(self._owner)[self._name].hooks
        hooks[:] = [hook for hook in hooks if hook is not self._hook]
        if not hooks:
            delattr(self._owner, self._name)


def on_method(owner: Any, name: str, hook: MethodHook, *, first: bool = False) -> MethodHandle:
    """Calls `hook` after each call of `owner.name`, with positional arguments; hooks may be added and taken off in any
    order. `first`: before the hooks that are there, which then see what it made of the result."""
    if name not in vars(owner):
        setattr(owner, name, _StandIn(getattr(owner, name)))
    hooks = vars(owner)[name].hooks
    hooks.insert(0 if first else len(hooks), hook)
    return MethodHandle(owner, name, hook)


class _StandIn:
    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        self.hooks: list[MethodHook] = []

    def __call__(self, *args: Any) -> Any:
        result = self._method(*args)
        for hook in tuple(self.hooks):
            changed = hook(args, result)
            result = result if changed is None else changed
        return result
