"""Whether event loops receive datagrams themselves while these come in close succession.

Off: docs/dev/hybrid-driving.md says what was measured.
"""

from __future__ import annotations

RECEIVES = False
