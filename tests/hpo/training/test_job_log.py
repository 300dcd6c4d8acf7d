from nodule_det.hpo.training.job_log import TAIL_BYTES, read_tail


def test_only_the_end_of_a_long_log_is_read(tmp_path):
    assert read_tail(tmp_path) == ""
    (tmp_path / "job.log").write_bytes(b"x" * TAIL_BYTES + b"the end \xff\n")
    assert read_tail(tmp_path).endswith("the end \ufffd\n")
    assert len(read_tail(tmp_path)) == TAIL_BYTES
