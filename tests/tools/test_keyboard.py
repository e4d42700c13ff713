"""Keys of a terminal: taken only where they are ours, and no fault if the terminal goes."""

import os
import sys

import pytest

from hearloop.tools.keyboard import Keyboard

pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")


@pytest.fixture
def terminal(monkeypatch):
    """The side that a person types at, of a terminal that is standard input."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "wb", buffering=0) as keys, os.fdopen(theirs) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield keys


def test_keys_are_there_as_they_are_typed(terminal):
    before = termios.tcgetattr(sys.stdin)
    with Keyboard() as keyboard:
        terminal.write(b"b+")
        assert keyboard.pressed() == "b+"
    assert termios.tcgetattr(sys.stdin) == before


@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_job_in_the_background_leaves_the_terminal_alone(terminal, monkeypatch, from_the_start):
    """The system stops a job that reads there or sets how the terminal works."""

    def to_the_background():
        monkeypatch.setattr(os, "tcgetpgrp", lambda terminal: os.getpgrp() + 1)

    if from_the_start:
        to_the_background()
    before = termios.tcgetattr(sys.stdin)
    with Keyboard() as keyboard:
        if not from_the_start:
            to_the_background()
            before = termios.tcgetattr(sys.stdin)
        terminal.write(b"b\n")
        assert keyboard.pressed() == ""
    assert termios.tcgetattr(sys.stdin) == before


def test_a_terminal_that_goes_has_no_more_keys(terminal):
    with Keyboard() as keyboard:
        terminal.close()
        assert keyboard.pressed() == ""
    with Keyboard() as keyboard:
        assert keyboard.pressed() == ""
