"""Generates docs/configuration.md from the table that the transport itself uses.

``python -m tools.configuration_page`` writes the page; a test compares it with the file.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from libp2p_quic import QUICTransportConfig
from libp2p_quic._config_table import LARGEST, MOST_STREAMS, ROWS, Reader

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"

BEGINNING = """\
# Configuration

<!-- Made by tools/configuration_page.py of python/libp2p_quic/_config_table.py. -->

```python
from libp2p_quic import QUICTransport, QUICTransportConfig

config = QUICTransportConfig(max_idle_timeout=60, initial_max_data=64_000_000)
transport = QUICTransport(key_pair.private_key, config)
```

`QUICTransportConfig` is a subclass of py-libp2p's class of that name. It has all fields of that class
and can be used in its place. py-libp2p's own class works too.

- **A value that you set on our class is in effect**, also if it is py-libp2p's default. A field is set
  when it is given to the constructor or assigned.
- In an object of py-libp2p's own class, a field with py-libp2p's default counts as not set, and our
  default applies: those defaults fit py-libp2p's own transport.
- **Of several fields with the same meaning, the first one below that was set takes precedence.**
  `transport.effective_config()` returns each field that the transport reads, with the value in effect.
- The transport reads the configuration when it is constructed. Later assignments have no effect.
- A value of the wrong type, an invalid value, and two values that contradict each other raise
  `InvalidConfigError` (a `ValueError`), which names the field. Our class checks when it is constructed,
  and the transport checks both classes.
- Setting a field without effect issues `libp2p_quic.UnusedSettingWarning`, a `UserWarning`, once in a
  process.
- These fields have no effect in py-libp2p's own transport and have one here: `connection_timeout`,
  `connection_window`, `stream_window`, `max_concurrent_streams`, `MAX_CONCURRENT_STREAMS`, and the two
  memory limits.
"""

INTRODUCTIONS = {
    Reader.TRANSPORT: "",
    Reader.SWARM: """\

They take effect only if the swarm gets the object, as with
`new_host(enable_quic=True, quic_transport_opt=config)`. The swarm does not see the configuration of a
transport given to `new_host(transports=[...])`; pass `connection_config=ConnectionConfig(...)` there.
""",
    Reader.NOBODY: "\nSetting one of these issues a warning.\n",
}

END = """
## `/quic` addresses

`/quic-v1` is QUIC version 1 (RFC 9000). `/quic` was draft 29. py-libp2p's own transport listens on and
dials `/quic` with draft 29's version number and *version 1's* keys, as its QUIC library does not
implement the keys of drafts.

- We dial `/quic` and py-libp2p's own transport listens: works, as version 1, which it serves on
  every address.
- It dials our listener, `/quic` or `/quic-v1`, with that version number: works, treated as version 1,
  if `enable_draft29` is True (the default).
- We dial `/quic` and this transport listens: works, as version 1.
- A peer with draft 29's keys dials us, or we dial one: **does not work**. Its first packets are
  encrypted with other keys, and a server must choose the keys before it can read a packet.

Draft 29's keys cannot be supported as well, as both kinds of peer send the same version number.
go-libp2p and rust-libp2p have dropped draft 29; use `/quic-v1` if possible. `enable_draft29=False`
neither dials nor listens on `/quic`, and answers that version number with a Version Negotiation packet.
"""


# Defaults that depend on the system or the Python version.
PLATFORM = {"NEGOTIATION_SEMAPHORE_LIMIT": "32; on Windows 16", "verify_mode": "ssl.CERT_NONE"}


def default(name: str) -> str:
    (field,) = (each for each in fields(QUICTransportConfig) if each.name == name)
    value: Any = field.default if field.default_factory is MISSING else field.default_factory()
    known = {LARGEST: "2**62 - 1 (none)", MOST_STREAMS: "2**60 (none)"}
    if isinstance(value, int) and value in known:
        return known[value]
    if isinstance(value, float) and value == math.inf:
        return "math.inf"
    if isinstance(value, int) and not isinstance(value, bool) and value > 9999:
        return f"{int(value):_}"
    if name in PLATFORM:
        return PLATFORM[name]
    return str(value) if isinstance(value, str) and value else repr(value)


def page() -> str:
    parts = [BEGINNING]
    titles = {
        Reader.TRANSPORT: "What this transport reads",
        Reader.SWARM: "What py-libp2p's swarm and host read",
        Reader.NOBODY: "Fields without effect",
    }
    for reader, title in titles.items():
        parts.append(
            f"\n## {title}\n{INTRODUCTIONS[reader]}\n| field | unit | default | here |\n|---|---|---|---|\n"
        )
        parts += [
            f"| `{row.name}` | {row.kind.unit} | {default(row.name)} | {row.here} |\n"
            for row in ROWS
            if row.reader is reader
        ]
    return "".join([*parts, END])


if __name__ == "__main__":
    PAGE.write_text(page())
