import pytest

from nodule_det.hpo.training.files import Claim, Exit, read_claim, read_exit


def test_a_claim_and_an_exit_code_of_the_job_script_are_read(tmp_path):
    (tmp_path / "claim").write_text("7.pbs01 node1 1000.500\n")
    (tmp_path / "exit_code").write_text("85 1060.250\n")
    assert read_claim(tmp_path) == Claim("7.pbs01", "node1", 1000.5)
    assert read_exit(tmp_path) == Exit(85, 1060.25)


@pytest.mark.parametrize("text", ["", "7", "x 1.0", "-1 1.0", "7 soon", "7 1.0 2.0", "\0\0"])
def test_a_damaged_exit_code_is_not_an_exit(tmp_path, text):
    (tmp_path / "exit_code").write_text(text)
    assert read_exit(tmp_path) is None


@pytest.mark.parametrize("text", ["", "7.pbs01 node1", "7.pbs01 node1 soon", "closed node1 1.0"])
def test_a_damaged_or_closed_claim_is_not_a_job(tmp_path, text):
    (tmp_path / "claim").write_text(text)
    assert read_claim(tmp_path) is None
