"""The limits that py-libp2p's swarm has of its own, for warnings and log lines.

The swarm applies them after the handshake. The engine's limits are in `_config`.
"""

from __future__ import annotations

from libp2p.network.config import ConnectionConfig
from libp2p.network.swarm import Swarm


def admitted(config: ConnectionConfig) -> int:
    """How many inbound connections a swarm with this configuration admits."""
    return max(1, config.max_connections - config.min_connections)


def limits_in_use(swarm: Swarm) -> str:
    """How many connections the swarm has and admits, for a log line about a refusal."""
    config, metrics = swarm.connection_config, swarm.get_metrics()
    text = (
        f"it has {metrics['inbound']} inbound connections and admits {admitted(config)}, the "
        f"max_connections ({config.max_connections}) of its connection_config less the min_connections "
        f"({config.min_connections}); {metrics['total']} connections in all"
    )
    is_full = metrics["inbound"] >= admitted(config) or metrics["total"] >= config.max_connections
    return (
        text
        if is_full
        else f"{text}; so its resource manager refused it, which also limits the connections with one peer"
    )
