"""The list of packages in a wheel (SBOM, CycloneDX 1.5, PEP 770). maturin writes the folder and the time of
the build and a random number into it; here it gets contents that are equal in every build of equal sources.
"""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

_SOURCES = "/libp2p-quic"
"""In place of the folder of the sources, as in the paths of the compiled module."""


def is_bom(name: str) -> bool:
    """Whether a file of a wheel is such a list."""
    return ".dist-info/sboms/" in name and name.endswith(".json")


def reproducible(data: bytes, sources: Path, at: int) -> bytes:
    """The list without the folder `sources`, sorted, with the time `at` (seconds since 1970) and a serial
    number that depends on its contents only.
    """
    text = data.decode()
    for folder in {sources, sources.resolve()}:
        text = text.replace(folder.as_uri(), f"file://{_SOURCES}").replace(str(folder), _SOURCES)
    bom: dict[str, Any] = json.loads(text)
    bom.pop("serialNumber", None)
    made = datetime.fromtimestamp(at, timezone.utc)
    bom.setdefault("metadata", {})["timestamp"] = made.strftime("%Y-%m-%dT%H:%M:%SZ")
    for each in bom.get("dependencies", []):
        each["dependsOn"] = sorted(each.get("dependsOn", []))
    bom.get("components", []).sort(key=_text)
    bom.get("dependencies", []).sort(key=_text)
    bom["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, _text(bom)).urn
    return json.dumps(bom, indent=2, sort_keys=True).encode() + b"\n"


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
