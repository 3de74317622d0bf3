"""Model folders from the hub or the disk, with errors that a user can act on."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from molora.errors import MoloraError

BASE_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""What a base model needs; never code, never pickles."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def is_hub_id(name: str) -> bool:
    return bool(_HUB_ID.fullmatch(name)) and not name.startswith(".")


def folder_of(name: str, files: tuple[str, ...], *, local_files_only: bool = False) -> Path:
    """The folder of a model: `name` itself if it is one, else the hub's snapshot with `files` in it (patterns).

    Progress bars are the hub client's own. Raises MoloraError for an unknown or closed id, or without a network.
    """
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if not is_hub_id(name):
        raise MoloraError(f"{name!r} is neither a folder here nor a hub id like owner/name.")
    try:
        return Path(
            snapshot_download(
                name,
                allow_patterns=list(files),
                ignore_patterns=["consolidated*", "original/*"],
                local_files_only=local_files_only,
            )
        )
    except GatedRepoError as error:
        raise MoloraError(
            f"The hub asks you to accept the terms of {name} first: open its page, agree, and run 'hf auth login'."
        ) from error
    except RepositoryNotFoundError as error:
        raise MoloraError(
            f"The hub knows no model {name!r} (or it is private: run 'hf auth login'). Check the spelling."
        ) from error
    except (LocalEntryNotFoundError, OSError, HfHubHTTPError) as error:
        raise MoloraError(
            f"{name} is not on this disk and the hub cannot be reached. Check the network, or give a folder that "
            "holds the model."
        ) from error
    except HFValidationError as error:
        raise MoloraError(f"{name!r} is no valid hub id ({error}).") from error
