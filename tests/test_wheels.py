"""`make wheels` writes equal archives for equal contents, knows its platforms, and checks signatures."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from pathlib import Path

import pytest

from tools.wheels import archive, page
from tools.wheels.page import Row
from tools.wheels.platforms import PLATFORMS, chosen

_FILES = {
    "package/_engine.abi3.so": b"\x7fELF",
    "package/__init__.py": b"",
    "package-1.dist-info/WHEEL": b"Tag: cp310-abi3-any\n",
    "package-1.dist-info/RECORD": b"what another program wrote",
}


def test_equal_contents_in_any_order_give_equal_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first.whl", tmp_path / "second.whl"
    archive.write(first, _FILES, 1_700_000_000)
    archive.write(second, dict(reversed(_FILES.items())), 1_700_000_000)
    assert first.read_bytes() == second.read_bytes()
    archive.write(second, {**_FILES, "package/__init__.py": b"#"}, 1_700_000_000)
    assert first.read_bytes() != second.read_bytes()


def test_the_record_lists_every_file_with_its_hash(tmp_path: Path) -> None:
    wheel = tmp_path / "package.whl"
    archive.write(wheel, _FILES, 1_700_000_000)
    files = archive.read(wheel)
    assert files.keys() == _FILES.keys()
    record = files["package-1.dist-info/RECORD"].decode().splitlines()
    assert "package/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0" in record
    assert record[-1] == "package-1.dist-info/RECORD,,"
    with zipfile.ZipFile(wheel) as found:
        # Installers keep the mode, and a module must be readable for every user.
        assert found.getinfo("package/_engine.abi3.so").external_attr >> 16 == 0o100755
    assert archive.module_name(files) == "package/_engine.abi3.so"


def test_every_platform_has_a_wheel_of_its_own() -> None:
    assert len({each.tag for each in PLATFORMS}) == len(PLATFORMS)
    assert {each.system for each in PLATFORMS} == {"linux", "macos", "windows"}
    for each in PLATFORMS:
        is_stable = each.tag.startswith("cp310-abi3-")
        assert is_stable != each.name.endswith("free-threaded"), each.name


def test_a_part_can_be_chosen_and_an_unknown_name_is_refused() -> None:
    assert chosen("") == list(PLATFORMS)
    assert [each.name for each in chosen("macos-arm64,manylinux-x86_64")] == [
        "manylinux-x86_64",
        "macos-arm64",
    ]
    with pytest.raises(ValueError, match="no platform amiga; there are manylinux-x86_64, "):
        chosen("amiga")


def test_the_page_keeps_everything_but_the_table() -> None:
    before = page.PAGE.read_text()
    after = page.with_table(before, [Row("manylinux-x86_64", "built", "cp310-abi3-any", 1_500_000)])
    assert (
        "| manylinux-x86_64 | built | `cp310-abi3-any` | 1.5 MB | not compared | checked, not loaded |"
        in after
    )
    assert page.with_table(after, []) == page.with_table(before, [])
    with pytest.raises(ValueError, match=r"platforms\.md lacks the lines"):
        page.with_table("", [])


def test_a_signature_of_other_pages_is_found() -> None:
    inspection = pytest.importorskip("tools.wheels.inspection", reason="needs make wheels' requirements")
    pages = bytes(range(256)) * 17
    hashes = b"".join(hashlib.sha256(pages[at : at + 4096]).digest() for at in range(0, len(pages), 4096))
    # A code directory of version 0x20000: its hashes begin after 44 bytes.
    directory = struct.pack(">IIIIIIIII", 0xFADE0C02, 44 + len(hashes), 0x20000, 2, 44, 0, 0, 2, len(pages))
    directory += struct.pack(">BBBBI", 32, 2, 0, 12, 0) + hashes
    signature = struct.pack(">IIIII", 0xFADE0CC0, 20 + len(directory), 1, 0, 20) + directory
    assert inspection.has_its_hashes(pages + signature, len(pages))
    changed = bytes([pages[0] ^ 1]) + pages[1:]
    assert not inspection.has_its_hashes(changed + signature, len(pages))
