"""The benchmark: compares this transport with its alternatives.

`contender` reads the contenders and builds them, `measure` defines the measures and their figures, `cell`
runs one measure of one contender, `load` keeps a processor busy beside it, `results` stores the lines,
`page` and `plot` show them, `goals` compares them with the goals. README.md has the command line of a
contender.
"""
