"""Commands of a batch system: their output, and those that never answer."""

import errno
import os
import pwd
import subprocess

import pytest

from nodule_det.errors import DispatchError
from nodule_det.hpo.dispatch.base import MissingCommand, Unavailable
from nodule_det.hpo.dispatch.shell import Answer, ask, look_up, user_name


def test_a_command_on_a_frozen_server_times_out():
    with pytest.raises(Unavailable, match=r"sleep 60 did not answer within 0.05 s"):
        ask(["sleep", "60"], timeout_s=0.05)


def test_a_missing_command_is_not_a_temporary_error():
    with pytest.raises(DispatchError, match="the command qsubb is not on the PATH") as caught:
        ask(["qsubb"], timeout_s=5)
    assert caught.type is MissingCommand


def test_a_login_node_with_too_many_processes_is_a_temporary_error(monkeypatch):
    # A limit on processes does not bind root, under whom these tests run as well.
    def no_process(*args, **settings):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "run", no_process)
    with pytest.raises(Unavailable, match=r"qstat could not .* temporarily unavailable"):
        ask(["qstat"], timeout_s=5)


def test_an_answer_keeps_both_streams_and_the_exit_code():
    answer = ask(["sh", "-c", "echo 149.pbs01; echo 'queue is full' >&2; exit 3"], timeout_s=5)
    assert (answer.stdout, answer.stderr, answer.code) == ("149.pbs01\n", "queue is full\n", 3)
    assert str(answer).endswith("exited with code 3: queue is full 149.pbs01")


def test_bytes_that_are_not_utf8_do_not_end_the_driver():
    assert ask(["printf", r"a\377b"], timeout_s=5).stdout == "a\ufffdb"


def test_a_command_cannot_wait_for_input_nor_be_reached_by_ctrl_c():
    assert ask(["cat"], timeout_s=5).stdout == ""
    session = ask(["cut", "-d ", "-f6", "/proc/self/stat"], timeout_s=5).stdout
    assert int(session) != os.getsid(0)


def test_a_long_answer_is_cut_in_the_middle_since_the_reason_comes_last():
    text = str(Answer(("qsub",), 1, "", "a" * 400 + "b" * 400))
    assert text == f"qsub exited with code 1: {'a' * 150} ... {'b' * 350}"
    assert str(Answer(("qsub",), 1, "", "c" * 499)).endswith("c" * 499)


def test_a_look_up_returns_the_group_or_an_empty_text():
    words = ["printf", r"x = 1\nServer = pbs01\n"]
    assert look_up(words, r"^Server = (\w+)$", 5) == "pbs01"
    assert look_up(words, r"^Cluster = (\w+)$", 5) == ""
    assert look_up(["qsubb"], r"(\w+)", 5) == ""


def test_the_name_of_an_unlisted_user_comes_from_the_environment(monkeypatch):
    assert user_name() == pwd.getpwuid(os.getuid()).pw_name

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setenv("USER", "ada")
    assert user_name() == "ada"
    monkeypatch.delenv("USER")
    assert user_name() == str(os.getuid())
