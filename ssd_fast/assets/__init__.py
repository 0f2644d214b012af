"""Shipped files: default weights, three photos, COCO's class names. PROVENANCE.md names their origins."""

from __future__ import annotations

from pathlib import Path

from .coco import COCO_CLASSES

__all__ = ["COCO_CLASSES", "SHIPPED_WEIGHTS", "asset_path", "weights_path"]

SHIPPED_WEIGHTS = dict.fromkeys(("ssdlite300_mobilenet_v2_coco", "coco"), "ssdlite300_mobilenet_v2_coco.safetensors")


def asset_path(name: str) -> Path:
    """Return the path of a shipped file, such as "chelsea.jpg".

    Raises:
        FileNotFoundError: there is no such asset; the message lists the assets.
    """
    folder = Path(__file__).parent
    path = folder / name
    if path.parent != folder or not path.is_file():
        known = sorted(file.name for file in folder.iterdir() if file.suffix in (".jpg", ".safetensors"))
        raise FileNotFoundError(f"asset_path: {name!r} is not shipped; the shipped files are {', '.join(known)}")
    return path


def weights_path(name_or_path: str | Path) -> Path:
    """Return the file of the shipped weights that a name of SHIPPED_WEIGHTS stands for; any other path unchanged."""
    name = str(name_or_path)
    return asset_path(SHIPPED_WEIGHTS[name]) if name in SHIPPED_WEIGHTS else Path(name_or_path)
