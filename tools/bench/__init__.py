"""The benchmark: this transport beside everything that could be used instead of it.

`contender` knows who takes part and builds them, `measure` what is measured and what its
figures mean, `cell` runs one measure of one contender, `results` keeps the lines, `page` and
`plot` show them, `goals` judges them; `drawing` and `origin` serve other pages, too. README.md
has the command line of a contender.
"""
