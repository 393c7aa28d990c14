"""The platforms that `make wheels` builds for: Rust's target and the tags of the wheel. How a wheel is
built, checked and tried is in the modules beside this one.
"""

from __future__ import annotations

import platform
import re
import shutil
import sys
from dataclasses import dataclass

MINGW = "x86_64-w64-mingw32-gcc"
"""Links the wheel of Windows: maturin 1.16 has zig export `PyInit_libp2p_quic._engine`, which no module has,
as its function is named without the package."""
_FREE_THREADED = "3.14t"
_MANYLINUX = re.compile(r"manylinux_(\d+)_(\d+)_(\w+)")


@dataclass(frozen=True)
class Platform:
    """One wheel: its name on the command line, Rust's target, and the tags that it must have."""

    name: str
    target: str
    platform_tag: str
    """The platform of the wheel's name. `make wheels` fails if another one comes out."""
    compatibility: str | None = None
    """The C library that the wheel may use, for Linux: the value of maturin's `--compatibility`."""
    python: str | None = None
    """A free-threaded CPython, which has no stable interface; `None` for the wheel of all others."""

    @property
    def system(self) -> str:
        return {"linux": "linux", "apple": "macos", "pc": "windows"}[
            self.target.split("-")[1].replace("unknown", "linux")
        ]

    @property
    def has_zig(self) -> bool:
        """Whether zig compiles and links; otherwise the target's own compiler, mingw's."""
        return self.system != "windows"

    @property
    def processor(self) -> str:
        return self.target.partition("-")[0]

    @property
    def is_musl(self) -> bool:
        return self.target.endswith("musl")

    @property
    def tag(self) -> str:
        """The three tags in the name of the wheel (PEP 425)."""
        if self.python is None:
            return f"cp310-abi3-{self.platform_tag}"
        digits = self.python.removesuffix("t").replace(".", "")
        return f"cp{digits}-cp{digits}t-{self.platform_tag}"


PLATFORMS = (
    Platform("manylinux-x86_64", "x86_64-unknown-linux-gnu", "manylinux_2_28_x86_64", "manylinux_2_28"),
    Platform("manylinux-aarch64", "aarch64-unknown-linux-gnu", "manylinux_2_28_aarch64", "manylinux_2_28"),
    Platform("musllinux-x86_64", "x86_64-unknown-linux-musl", "musllinux_1_2_x86_64", "musllinux_1_2"),
    Platform("musllinux-aarch64", "aarch64-unknown-linux-musl", "musllinux_1_2_aarch64", "musllinux_1_2"),
    Platform("macos-arm64", "aarch64-apple-darwin", "macosx_11_0_arm64"),
    Platform("macos-x86_64", "x86_64-apple-darwin", "macosx_11_0_x86_64"),
    Platform("windows-x86_64", "x86_64-pc-windows-gnu", "win_amd64"),
    Platform(
        "manylinux-x86_64-free-threaded",
        "x86_64-unknown-linux-gnu",
        "manylinux_2_28_x86_64",
        "manylinux_2_28",
        _FREE_THREADED,
    ),
)


def chosen(names: str) -> list[Platform]:
    """The platforms of those names, separated by commas, in the order of the table; all for no name."""
    wanted = set(filter(None, names.split(",")))
    if unknown := wanted - {each.name for each in PLATFORMS}:
        known = ", ".join(each.name for each in PLATFORMS)
        raise ValueError(f"no platform {', '.join(sorted(unknown))}; there are {known}")
    return [each for each in PLATFORMS if not wanted or each.name in wanted]


def runs_wherever(each: Platform, found: str) -> bool:
    """Whether a module that auditwheel finds fit for the platform tag `found` runs wherever the wheel's own
    tag promises: on the same processor, with no newer glibc (PEP 600).
    """
    needs, promised = _MANYLINUX.fullmatch(found), _MANYLINUX.fullmatch(each.platform_tag)
    if needs is None or promised is None:
        return False
    is_old_enough = (int(needs[1]), int(needs[2])) <= (int(promised[1]), int(promised[2]))
    return is_old_enough and needs[3] == promised[3]


def missing(platforms: list[Platform]) -> str | None:
    """What this machine lacks to build those wheels, and where to get it; `None` if nothing."""
    if sys.platform != "linux":
        return f"wheels are cross-built on Linux, and this is {sys.platform}"
    if shutil.which("rustup") is None:
        return "rustup is missing, which installs Rust's libraries for other platforms: https://rustup.rs"
    if not all(each.has_zig for each in platforms) and shutil.which(MINGW) is None:
        return f"{MINGW} is missing: apt-get install gcc-mingw-w64-x86-64"
    return None


def runs_here(each: Platform) -> bool:
    """Whether this machine's own Python can load the wheel."""
    is_own = each.system == "linux" and each.processor == platform.machine()
    return is_own and not each.is_musl and each.python is None
