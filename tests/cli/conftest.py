"""What the tests of the command line share."""

import sys

import pytest

from buckler.cli.main import main


@pytest.fixture
def run_lines(monkeypatch, capsys):
    """Run the command in this process: (exit code, stdout, stderr)."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["buckler", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


@pytest.fixture
def run(run_lines):
    """The same, stdout and stderr each on one line."""

    def command(*arguments):
        code, out, err = run_lines(*arguments)
        return code, " ".join(out.split()), " ".join(err.split())

    return command
