"""What the tests of the command line share."""

import sys

import pytest

from buckler.cli.main import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process: (exit code, stdout, stderr), each on one line."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["buckler", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, " ".join(printed.out.split()), " ".join(printed.err.split())

    return command
