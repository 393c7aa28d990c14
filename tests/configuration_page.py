"""docs/configuration.md, made of the table that the transport itself works by.

``python tests/configuration_page.py`` writes the page; a test compares it.
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

<!-- Made by tests/configuration_page.py of python/libp2p_quic/_config_table.py. -->

```python
from libp2p_quic import QUICTransport, QUICTransportConfig

config = QUICTransportConfig(max_idle_timeout=60, initial_max_data=64_000_000)
transport = QUICTransport(key_pair.private_key, config)
```

`QUICTransportConfig` is a subclass of py-libp2p's class of that name, takes all of its fields,
and is accepted wherever that one is. py-libp2p's own class works too.

- **What you set on our class is what happens**, also where the value is a default of py-libp2p's. A field
  is set when it is given to the constructor, or assigned.
- In an object of py-libp2p's own class a field that has py-libp2p's default counts as not set, and our
  default takes its place: those defaults fit the transport they were made for.
- **Where several names say the same, the first one below that was set counts.**
  `transport.effective_config()` tells what came of it: each field that the transport reads, with the value
  in effect.
- The configuration is read when the transport is made. What is written to it later has no effect.
- A value of the wrong type, a value that makes no sense, and two values that contradict each other
  are refused with `QUICInvalidConfigError` (a `ValueError`), which names the field: by our class when
  it is made, and for both classes when the transport is made.
- A field that does nothing here warns (`libp2p_quic.UnusedSettingWarning`, a `UserWarning`) when it
  is set, once in a process.
- What does nothing in py-libp2p's own transport and something here: `connection_timeout`,
  `connection_window`, `stream_window`, `max_concurrent_streams`, `MAX_CONCURRENT_STREAMS`, and the two
  memory limits.
"""

INTRODUCTIONS = {
    Reader.TRANSPORT: "",
    Reader.SWARM: """\

They take effect when the object reaches the swarm, and that is as py-libp2p has it: with
`new_host(enable_quic=True, quic_transport_opt=config)`. A transport that is handed to
`new_host(transports=[...])` keeps its configuration to itself; give the swarm a
`connection_config=ConnectionConfig(...)` there.
""",
    Reader.NOBODY: "\nSetting one of these warns.\n",
}

END = """
## `/quic` addresses

`/quic-v1` is QUIC version 1 (RFC 9000), and `/quic` once was its draft 29. py-libp2p's own transport
listens on and dials `/quic` with draft 29's version number and *version 1's* keys, since its QUIC
library knows no draft's keys.

- We dial `/quic` and py-libp2p's own transport listens: works, as version 1, which it serves on
  every address.
- It dials our listener, `/quic` or `/quic-v1`, with that version number: works, taken for version 1,
  with `enable_draft29` (the default).
- We dial `/quic` and this transport listens: works, as version 1.
- A real draft 29 peer dials us, or we dial one: **does not work**. Its first packets have other keys,
  and a server must choose before it can read one.

Real draft 29 cannot be added beside this: both kinds carry the same version number. go-libp2p and
rust-libp2p have dropped it; use `/quic-v1` wherever you can. `enable_draft29=False` leaves `/quic`
addresses alone and answers that version number with a Version Negotiation packet.
"""


# What would be written otherwise on another system, or by another Python.
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
        Reader.NOBODY: "What means nothing here",
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
