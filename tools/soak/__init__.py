"""The soak run: hosts start and stop for minutes, and leave nothing.

`scenarios` and `flood` are the load; `run` runs it in rounds and measures the processes when they are
idle between two rounds; `verdict` compares the measurements, `page` shows them. `leaks` leaks on purpose,
so that tests can show that leaks are detected.
"""
