"""A wheel as an archive: read, and written so that equal contents give equal bytes (PEP 427)."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import time
import zipfile
from pathlib import Path

MODULES = (".so", ".pyd")
"""How the name of the compiled module ends."""


def read(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel, by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def module_name(files: dict[str, bytes]) -> str:
    """The name of the compiled module; ValueError unless the wheel has exactly one."""
    names = [name for name in files if name.endswith(MODULES)]
    if len(names) != 1:
        raise ValueError(f"a wheel has one compiled module, this one has {names}")
    return names[0]


def write(wheel: Path, files: dict[str, bytes], at: int) -> None:
    """Write a wheel of those files, with a new RECORD. Each file gets the time `at` (seconds since 1970)."""
    record = next(name for name in files if name.endswith(".dist-info/RECORD"))
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    names = sorted(set(files) - {record})
    for name in names:
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
        table.writerow([name, f"sha256={digest}", len(files[name])])
    table.writerow([record, "", ""])
    contents = {**files, record: rows.getvalue().encode()}
    # The metadata come last, as PEP 427 recommends.
    names.sort(key=lambda name: ".dist-info/" in name)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in [*names, record]:
            entry = zipfile.ZipInfo(name, time.gmtime(at)[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            mode = 0o755 if name.endswith(MODULES) else 0o644
            entry.external_attr = (0o100000 | mode) << 16
            archive.writestr(entry, contents[name])
