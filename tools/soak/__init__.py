"""The long run: hosts that come and go for minutes, and nothing is left of them.

`life` is what happens, `flood` the garbage among it; `run` lets it happen in rounds and weighs
the processes at the quiet points between them; `verdict` judges what was weighed, `page` shows
it. `plant` leaks on purpose, so that the tests see that leaks are noticed.
"""

import sys
from pathlib import Path

# The hosts are those of the tests.
sys.path.append(str(Path(__file__).parent.parent / "tests"))
