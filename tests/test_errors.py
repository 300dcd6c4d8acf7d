"""Errors and exit codes: one number for one meaning."""

from __future__ import annotations

import inspect
import signal

import pytest

from nodule_det import errors
from nodule_det.errors import ExitCode, NoduleDetError

ALL = [e for _, e in inspect.getmembers(errors, inspect.isclass) if issubclass(e, NoduleDetError)]


@pytest.mark.parametrize("error", ALL)
def test_every_error_is_in_the_tree_of_the_docstring_and_has_an_exit_code(error):
    assert error.__name__ in (errors.__doc__ or "")
    assert isinstance(error.exit_code, ExitCode)
    assert error.exit_code is not ExitCode.COMPLETE


def test_codes_of_signals_are_those_of_a_shell():
    assert ExitCode.INTERRUPTED == 128 + signal.SIGINT
    assert ExitCode.BROKEN_PIPE == 128 + signal.SIGPIPE


@pytest.mark.parametrize("code", ExitCode)
def test_a_code_is_found_by_the_reason_in_result_json(code):
    assert ExitCode.of(code.reason) is code


@pytest.mark.parametrize("reason", [None, "", "no such reason", "wall_clock"])
def test_an_unknown_reason_is_an_error(reason):
    assert ExitCode.of(reason) is ExitCode.ERROR
