"""The programs behind the commands of the Makefile; each folder is one program. None is installed."""
