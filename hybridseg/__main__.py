"""`python -m hybridseg`."""

from hybridseg.cli import command

command()
