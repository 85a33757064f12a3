"""What a result was computed with: versions and hardware."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from typing import Any

import loky


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    packages = ("elpasolite", "numpy", "torch", "stable-baselines3", "gymnasium", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def hardware(device: str) -> dict[str, Any]:
    """What a result was computed on."""
    return {
        "device": device,
        "machine": platform.machine(),
        "system": sys.platform,
        "cpus": loky.cpu_count(),
    }
