"""The interoperability matrix: builds the peers, runs every case in both directions, and reports.

Each peer is a program in a subfolder, with the command line that README.md describes. The runner is
independent of a peer's language.
"""
