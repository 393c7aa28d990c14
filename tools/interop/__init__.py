"""The interoperability matrix: builds the peers, runs every case both ways, and reports.

Each peer is a program in a folder of its own here, and speaks the command line that
README.md describes. Nothing here knows what a peer is made of.
"""
