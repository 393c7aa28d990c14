"""What every test begins with: a process that hears Ctrl-C, wherever it was started from."""

import signal

# A shell starts its background jobs with SIGINT ignored, and their children inherit that: the
# programs that the tests interrupt would not hear it. A handler is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
