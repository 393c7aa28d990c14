"""The NAT laboratory: peers in network namespaces, behind routers of every kind (`make nat`)."""
