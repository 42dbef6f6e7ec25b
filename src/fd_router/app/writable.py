"""The check of what the router writes: whether its user may, found out without writing."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from fd_router.config.loading import Config


def unwritable(config: Config) -> tuple[str, ...]:
    """Return a line for each file that could be neither made nor changed by whoever asks, and each such folder."""
    paths = {"manager.state-path": config.manager.state_path}
    if config.log.output == "file":
        paths["log.path"] = config.log.path
    found = [(key, path, _why_not(Path(path).absolute())) for key, path in paths.items() if path]
    if folder := config.telemetry.recording_folder:
        found.append(("telemetry.recording-folder", folder, _why_no_new_file(Path(folder).absolute())))
    return tuple(f"{key}: {path!r} can't be written: {why}" for key, path, why in found if why)


def _why_not(path: Path) -> str:
    if path.is_dir():
        return "it is a directory; name a file in it"
    if path.exists():
        return "" if os.access(path, os.W_OK) else f"the user {_user()} may not"
    return _why_no_new_file(path.parent)


def _why_no_new_file(folder: Path) -> str:
    """Look at the nearest folder that is there: those between it and the file would be made."""
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder} is no directory"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"the user {_user()} may not make files in {folder}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user needn't have a name
        return str(os.getuid())
