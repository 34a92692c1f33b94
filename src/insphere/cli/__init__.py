"""The command line: one function per command, each a few lines over library calls."""

from insphere.cli.app import main as main
