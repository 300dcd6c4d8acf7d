"""Candidates are read the fast way or the careful way: the same columns, the same refusals."""

import numpy as np
import pytest

from nodule_det.errors import TableError
from nodule_det.evaluate import reading

HEADER = "seriesuid,coordX,coordY,coordZ,probability"
GOOD = {
    "plain": f"{HEADER}\na,1,2.5,-3,0.5\nb,1e2,0,0,inf\n",
    "more columns": f"{HEADER},diameter_mm,class\na,1,2,3,0.5,4.5,solid\n",
    "another order": "probability,coordZ,coordY,coordX,seriesuid\n0.5,3,2,1,a\n",
    "quotes, blanks and a blank line": f'{HEADER}\n"a",1,2,3,0.5\n\n b ,1,2,3, 0.25\n',
    "byte-order mark and carriage returns": f"\ufeff{HEADER}\r\na,1,2,3,nan\r\n",
    "semicolons": HEADER.replace(",", ";") + "\na;1;2;3;0.5\n",
    "no rows": f"{HEADER}\n",
    "an accent and a long id": f"{HEADER}\né{'x' * 100},1,2,3,0.5\n",
    "an id in another script": f"{HEADER}\n肺,1,2,3,0.5\n",
}
BAD = {
    "a short row": (f"{HEADER}\na,1,2,3,0.5\na,1,2,3\n", "line 3 has 4 cells, its header has 5"),
    "a decimal comma": (f"{HEADER}\na,1,5,2,3,0.5\n", "line 2 has 6 cells"),
    "a word": (f"{HEADER}\na,1,2,3,high\n", "line 2: probability='high' is not a number"),
    "an infinite place": (f"{HEADER}\na,1,inf,3,1\n", "line 2 has a coordinate that is not finite"),
    "no score": ("seriesuid,coordX,coordY,coordZ\na,1,2,3\n", "neither a column probability nor"),
    "two scores": (f"{HEADER},score\na,1,2,3,1,1\n", "has both a column probability and score"),
    "no z": ("seriesuid,coordX,coordY,score\na,1,2,3\n", "lacks the column coordZ"),
}


@pytest.mark.parametrize("name", GOOD)
def test_both_ways_give_the_same_columns(name, tmp_path, monkeypatch):
    path = tmp_path / "candidates.csv"
    path.write_bytes(GOOD[name].encode())
    fast, n_fast = reading.read_candidates(path)
    monkeypatch.setattr(reading, "_read_plain", lambda path: None)
    careful, n_careful = reading.read_candidates(path)
    assert n_fast == n_careful
    for column in ("case", "world_mm", "score"):
        np.testing.assert_array_equal(getattr(fast, column), getattr(careful, column))


def test_a_flawless_file_goes_the_fast_way(tmp_path):
    path = tmp_path / "candidates.csv"
    path.write_text(GOOD["more columns"])
    assert reading._read_plain(path) is not None


@pytest.mark.parametrize("name", BAD)
def test_both_ways_refuse_in_the_same_words(name, tmp_path, monkeypatch):
    text, words = BAD[name]
    path = tmp_path / "candidates.csv"
    path.write_text(text)
    with pytest.raises(TableError, match=words):
        reading.read_candidates(path)
    monkeypatch.setattr(reading, "_read_plain", lambda path: None)
    with pytest.raises(TableError, match=words):
        reading.read_candidates(path)
