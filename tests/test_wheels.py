"""`make wheels` writes equal archives for equal contents, knows its platforms, checks signatures, and leaves
no trace of a build in what it publishes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.wheels import archive, bom, identity, linkedit, page, running
from tools.wheels.page import Row, RunResult
from tools.wheels.platforms import PLATFORMS, chosen, runs_wherever

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


def test_the_list_of_packages_depends_on_the_sources_alone(tmp_path: Path) -> None:
    def made(folder: Path, serial: str, names: list[str]) -> bytes:
        references = [f"path+{folder.as_uri()}/crates/{name}#0.1.0" for name in names]
        return json.dumps(
            {
                "serialNumber": serial,
                "metadata": {"timestamp": serial},
                "components": [{"bom-ref": each} for each in references],
                "dependencies": [{"ref": each, "dependsOn": references} for each in references],
            }
        ).encode()

    first, second = tmp_path / "first" / "sources", tmp_path / "second" / "elsewhere" / "sources"
    one = bom.reproducible(made(first, "1", ["engine", "noise"]), first, 1_700_000_000)
    other = bom.reproducible(made(second, "2", ["noise", "engine"]), second, 1_700_000_000)
    assert one == other
    assert str(tmp_path).encode() not in one
    found = json.loads(one)
    assert found["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert found["serialNumber"].startswith("urn:uuid:")
    changed = bom.reproducible(made(first, "1", ["engine"]), first, 1_700_000_000)
    assert json.loads(changed)["serialNumber"] != found["serialNumber"]


def _mach_o(uuid: bytes, contents: bytes, signature: bytes) -> bytes:
    """A header, the commands LC_UUID and LC_CODE_SIGNATURE, contents and a signature."""
    commands = struct.pack("<II16s", 0x1B, 24, uuid)
    offset = 32 + 24 + 16 + len(contents)
    commands += struct.pack("<IIII", 0x1D, 16, offset, len(signature))
    header = struct.pack("<IIIIIIII", 0xFEEDFACF, 0x0100000C, 0, 6, 2, len(commands), 0, 0)
    return header + commands + contents + signature


def test_the_uuid_of_a_macos_module_depends_on_its_contents_alone() -> None:
    one = _mach_o(b"1" * 16, b"contents", b"signature 1")
    other = _mach_o(b"2" * 16, b"contents", b"signature 2")
    assert identity.uuid_of_contents(one) == identity.uuid_of_contents(other)
    assert identity.uuid_of_contents(one) != identity.uuid_of_contents(_mach_o(b"1" * 16, b"others..", b""))
    assert identity.with_uuid(one, b"2" * 16) == _mach_o(b"2" * 16, b"contents", b"signature 1")
    with pytest.raises(ValueError, match="not a 64-bit Mach-O file"):
        identity.with_uuid(bytes(64), b"2" * 16)


def _pe(time: int, number: bytes) -> bytes:
    """A PE file of one section, with an export table at its begin and a debug directory behind it. Its
    checksum depends on the time.
    """
    directories = [(0, 0)] * 16
    directories[0], directories[6] = (0x1000, 40), (0x1028, 28)
    options = struct.pack("<H", 0x20B).ljust(64, b"\0") + struct.pack("<I", time)
    options = options.ljust(108, b"\0") + struct.pack("<I", 16)
    options += b"".join(struct.pack("<II", *each) for each in directories)
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    head += b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 1, time, 0, 0, len(options), 0x2022) + options
    raw = len(head) + 40
    section = b".rdata".ljust(8, b"\0") + struct.pack("<IIII", 200, 0x1000, 200, raw).ljust(32, b"\0")
    exports = struct.pack("<II", 0, time).ljust(40, b"\0")
    debug = struct.pack("<IIIIIII", 0, time, 0, 2, 24, 0x1044, raw + 68)
    return head + section + exports + debug + (b"RSDS" + number + struct.pack("<I", 1)).ljust(132, b"\0")


def test_a_windows_module_has_no_time_of_its_build() -> None:
    assert identity.without_times(_pe(1_700_000_000, b"1" * 16)) == _pe(0, bytes(16))
    with pytest.raises(ValueError, match="not a PE file"):
        identity.without_times(bytes(512))


def test_auditwheel_may_find_a_wheel_fit_for_an_older_glibc() -> None:
    (wheel,) = chosen("manylinux-aarch64")
    assert runs_wherever(wheel, "manylinux_2_28_aarch64")
    assert runs_wherever(wheel, "manylinux_2_17_aarch64")
    assert not runs_wherever(wheel, "manylinux_2_34_aarch64")
    assert not runs_wherever(wheel, "manylinux_2_28_x86_64")
    assert not runs_wherever(wheel, "linux_aarch64")


def test_a_wheel_for_musl_loads_musl_alone() -> None:
    inspection = pytest.importorskip("tools.wheels.inspection", reason="needs make wheels' requirements")
    assert inspection._LOADED["musl"].fullmatch("libc.so")
    for foreign in ("libc.so.6", "libgcc_s.so.1", "libm.so.6"):
        assert inspection._LOADED["musl"].fullmatch(foreign) is None
        assert inspection._LOADED["linux"].fullmatch(foreign)


def test_a_result_replaces_the_one_before(tmp_path: Path) -> None:
    results, shown = tmp_path / "platforms.json", tmp_path / "platforms.md"
    shown.write_text(f"# Platforms\n\n{page._TESTS_BEGIN}\n{page._TESTS_END}\n\nThe end.\n")
    for result in ("FAILED: 1 passed, 1 failed", "2 passed, 0 failed"):
        page.keep_tests(RunResult("musl", "the tests", "natively", result, "2026-11-30"), results, shown)
    assert "| musl | the tests | natively | 2 passed, 0 failed | 2026-11-30 |" in shown.read_text()
    assert "FAILED" not in shown.read_text()
    assert shown.read_text().endswith("\n\nThe end.\n")
    shown.write_text("# Platforms\n")
    with pytest.raises(ValueError, match=r"platforms\.md lacks the lines"):
        page.keep_tests(RunResult("macOS", "engine", "compiled only", "", "2026-11-30"), results, shown)
    assert len(json.loads(results.read_text())) == 2


def test_an_interrupted_build_is_ended_with_its_descendants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "TOLD_EVERY", 0.05)
    waits = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {waits!r}])"
    log = tmp_path / "build.log"

    def interrupt(line: str) -> None:
        if line.isdigit():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        running.run_logged([sys.executable, "-c", outer], log, 60, interrupt, tmp_path)
    # The process has ended. Its number is free only after its new parent has asked for the status.
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(int(running.last_line(log)))
        ended, _, _ = select.select([descriptor], [], [], 20)
        os.close(descriptor)
        assert ended


def test_a_build_that_fails_or_takes_too_long_says_so(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    with pytest.raises(subprocess.TimeoutExpired):
        command = [sys.executable, "-c", "import signal; signal.pause()"]
        running.run_logged(command, log, 0, print, tmp_path)
    assert running.last_line(log) == "no output yet"
    with pytest.raises(subprocess.CalledProcessError):
        command = [sys.executable, "-c", "import sys; sys.exit('error: no linker\\n')"]
        running.run_logged(command, log, 60, print, tmp_path)
    assert running.last_line(log) == "error: no linker"


def test_a_wheel_of_an_unexpected_form_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lief", reason="needs make wheels' requirements")
    from tools.wheels import __main__ as program

    def refused(*_: object) -> None:
        raise struct.error("unpack_from requires a buffer")

    monkeypatch.setattr(program, "ROOT", tmp_path)
    monkeypatch.setattr(program, "_WORK", tmp_path / "target")
    monkeypatch.setattr(program, "_OUT", tmp_path / "dist")
    monkeypatch.setattr(program, "built", refused)
    old = tmp_path / "dist" / f"libp2p_quic-0.1.0-{PLATFORMS[0].tag}.whl"
    old.parent.mkdir()
    old.touch()
    row = program.made(PLATFORMS[0], compare=True)
    assert (row.state, row.why) == ("FAILED", "unpack_from requires a buffer")
    assert not old.exists()


def test_a_wheel_without_the_package_is_refused(tmp_path: Path) -> None:
    inspection = pytest.importorskip("tools.wheels.inspection", reason="needs make wheels' requirements")
    names = ("__init__.py", "_engine.abi3.so", "_engine.pyi", "asyncio/__init__.py", "py.typed")
    files = {f"libp2p_quic/{name}": b"" for name in names}
    files["libp2p_quic-1.dist-info/RECORD"] = b""
    wheel = tmp_path / "libp2p_quic.whl"
    archive.write(wheel, files, 1_700_000_000)
    assert inspection.contents(wheel) == len(files)
    del files["libp2p_quic/py.typed"]
    archive.write(wheel, files, 1_700_000_000)
    with pytest.raises(inspection.Unfit, match=r"lacks libp2p_quic/py\.typed"):
        inspection.contents(wheel)


def _linked(names: bytes, is_signed: bool) -> bytes:
    """A Mach-O file with the commands LC_SEGMENT_64, LC_SYMTAB and, if it is signed, LC_CODE_SIGNATURE. The
    names of its symbols begin at an offset that is a multiple of 4, but of no more.
    """
    count, length = (3, 72 + 24 + 16) if is_signed else (2, 72 + 24)
    begin = 5004
    limit = begin + len(names)
    limit += -limit % 16 if is_signed else 0
    directory = struct.pack(">IIIIIIIII", 0xFADE0C02, 48 + 64, 0x20000, 2, 48, 44, 0, 2, limit)
    directory += struct.pack(">BBBBI", 32, 2, 0, 12, 0) + b"_e\0\0"
    signature = struct.pack(">IIIII", 0xFADE0CC0, 20 + 48 + 64, 1, 0, 20) + directory + bytes(64)
    end = limit + len(signature) if is_signed else limit
    commands = struct.pack("<II16sQQQQ", 0x19, 72, b"__LINKEDIT", 0x4000, 0x4000, 4096, end - 4096)
    commands = commands.ljust(72, b"\0")
    commands += struct.pack("<IIIIII", 0x2, 24, 4096, 1, begin, len(names))
    commands += struct.pack("<IIII", 0x1D, 16, limit, len(signature)) if is_signed else b""
    header = struct.pack("<IIIIIIII", 0xFEEDFACF, 0x0100000C, 0, 6, count, length, 0, 0)
    unsigned = ((header + commands).ljust(begin, b"\1") + names).ljust(limit, b"\0")
    return unsigned + (signature if is_signed else b"")


def test_the_names_of_symbols_are_aligned_for_macos_27() -> None:
    module = _linked(b"\0_PyInit__engine\0", is_signed=False)
    assert linkedit.misaligned(module) == ["names of symbols at 5004"]
    moved = linkedit.aligned(module)
    assert linkedit.misaligned(moved) == []
    assert moved[5008:] == b"\0_PyInit__engine\0"
    assert struct.unpack_from("<Q", moved, 32 + 48) == (len(moved) - 4096,)
    assert linkedit.aligned(moved) == moved
    with pytest.raises(ValueError, match="16 bytes follow the names"):
        linkedit.aligned(module + bytes(16))


def test_an_aligned_module_is_signed_again() -> None:
    inspection = pytest.importorskip("tools.wheels.inspection", reason="needs make wheels' requirements")
    # The padding moves the end of the names over that of the page.
    names = bytes(8192 - 5004 - 2)
    module = _linked(names, is_signed=True)
    moved = linkedit.aligned(module)
    assert linkedit.misaligned(moved) == []
    offset, size = struct.unpack_from("<II", moved, 32 + 72 + 24 + 8)
    assert (offset, offset + size) == (8208, len(moved))
    assert inspection.has_its_hashes(moved, offset)
    assert struct.unpack_from(">I", moved, offset + 4) == (size,)
    assert identity.uuid_of_contents(moved) != identity.uuid_of_contents(module)
