"""The one error a user can cause. Its message names what was wrong, where, and the mend."""


class MoloraError(Exception):
    """Something a user gave (a folder, an id, a prompt, a file) cannot be used; the message says how to mend it."""
