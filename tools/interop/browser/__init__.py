"""Browsers against nodes of this project: the page, the nodes, the cases, the report."""
