"""Where the trained agent lies that ships with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PRETRAINED: Final = "pretrained"
"""What commands call it; `agents.AgentSampler.pretrained` reads it."""


def pretrained_path() -> Path:
    """The file of the agent: settings in JSON and plain arrays, no pickles."""
    return Path(__file__).parent / "data" / f"{PRETRAINED}.zip"
