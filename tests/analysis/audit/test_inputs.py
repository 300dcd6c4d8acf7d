"""Lists that do not fit each other, made from a correct submission."""

import re

import numpy as np
import pytest

from tests.analysis.audit.submissions import correct

GOOD = correct(3)


def sized(how, scans=GOOD.cases):
    rows = [(*r[:4], how(r[4])) if r[0] in scans else r for r in GOOD.lesions]
    return GOOD.change(lesions=rows)


def test_one_fold_against_all_scans_is_noticed():
    others = [f"1.2.840.99.{k}" for k in range(60)]
    finding = GOOD.change(cases=[*GOOD.cases, *others]).findings()["cases_without_candidates"]
    assert finding.message.startswith("60 of 100 scans have no candidate, 0 of them with lesions")
    assert "was one fold evaluated against the scans of all?" in finding.message
    assert finding.level.value == "warning"


def test_findings_of_other_folds_are_expected_but_their_candidates_are_not():
    fold = GOOD.change(cases=GOOD.cases[:20])
    kept = fold.change(candidates=[r for r in GOOD.candidates if r[0] in fold.cases])
    findings = kept.findings(drop_unknown_findings=True)
    assert findings["unknown_lesions"].level.value == "note"
    assert findings["unknown_excluded"].level.value == "note"
    assert "unknown_candidates" not in findings
    all_rows = fold.findings(drop_unknown_findings=True, drop_unknown_candidates=True)
    assert all_rows["unknown_candidates"].level.value == "warning"


@pytest.mark.parametrize("spoil", ["{}.0", "00{}", "{}.mhd", " {} "])
def test_ids_in_another_spelling_are_counted(spoil):
    plain = GOOD.change(
        cases=[c.rsplit(".", 1)[1] for c in GOOD.cases],
        **{
            name: [(r[0].rsplit(".", 1)[1], *r[1:]) for r in getattr(GOOD, name)]
            for name in ("lesions", "candidates", "excluded")
        },
    )
    some = set(plain.cases[:7])
    rows = [(spoil.format(r[0]) if r[0] in some else r[0], *r[1:]) for r in plain.candidates]
    findings = plain.change(candidates=rows).findings(drop_unknown_candidates=True)
    assert "(7 ids are listed in another spelling" in (findings["unknown_candidates"].message)


def test_candidates_without_a_score_are_counted():
    rows = [(*GOOD.candidates[0][:4], np.nan), *GOOD.candidates[1:]]
    message = GOOD.change(candidates=rows).findings(drop_nan=True)["nan_scores"].message
    assert message.startswith("left out: 1 candidate without a score")


def test_a_cap_on_candidates_is_noticed():
    kept, count = [], dict.fromkeys(GOOD.cases, 0)
    for row in sorted(GOOD.candidates, key=lambda r: -r[4]):
        count[row[0]] += 1
        kept += [row] * (count[row[0]] <= 10)
    message = GOOD.change(candidates=kept).findings()["capped_rows"].message
    assert " scans have exactly 10 candidates and none has more" in message


def test_a_list_that_ends_early_is_noted():
    rows = sorted(GOOD.candidates, key=lambda r: -r[4])[:150]
    finding = GOOD.change(candidates=rows).findings()["short_list"]
    assert "If a score threshold was applied, lower it" in finding.message


def test_doubled_candidates_are_counted():
    double = GOOD.change(candidates=GOOD.candidates * 2)
    n = len(GOOD.candidates)
    message = double.findings()["duplicate_candidates"].message
    assert message.startswith(f"{n} of {2 * n:,} candidates, in 40 scans, have exactly the place")


def test_duplicates_with_other_scores_in_some_scans_are_counted():
    again = [(*r[:4], r[4] - 0.5) for r in GOOD.candidates if r[0] in GOOD.cases[:5]]
    double = GOOD.change(candidates=[*GOOD.candidates, *again])
    message = double.findings()["duplicate_candidates"].message
    assert message.startswith(f"{len(again)} of")
    assert ", in 5 scans," in message


def test_the_output_of_one_scan_under_another_id_is_noticed():
    first, second = GOOD.cases[:2]
    rows = [r for r in GOOD.candidates if r[0] != second]
    rows += [(second, *r[1:]) for r in rows if r[0] == first]
    finding = GOOD.change(candidates=rows).findings()["copied_scans"]
    assert finding.rows[0]["case"] in (first, second)


def test_a_lesion_that_is_listed_twice_is_noticed():
    message = GOOD.change(lesions=[*GOOD.lesions, GOOD.lesions[0]]).findings()["repeated_lesions"]
    assert message.message.startswith("1 lesion has exactly the place of an earlier one")


@pytest.mark.parametrize("scans", [GOOD.cases, GOOD.cases[::4]], ids=["all scans", "some scans"])
def test_diameters_in_cm_are_noticed(scans):
    finding = sized(lambda d: d / 10, scans).findings()["diameters_in_cm"]
    assert "are they in cm? Convert them to mm" in finding.message
    assert {row["case"] for row in finding.rows} <= set(scans)


def test_radii_in_place_of_diameters_are_noticed():
    assert "are they radii?" in sized(lambda d: d / 2).findings()["diameters_are_radii"].message


@pytest.mark.parametrize("seed", range(20))
def test_radii_in_a_fifth_of_the_scans_are_noticed(seed):
    good = correct(seed)
    some = set(good.cases[::5])
    rows = [(*r[:4], r[4] / 2) if r[0] in some else r for r in good.lesions]
    finding = good.change(lesions=rows).findings()["diameters_are_radii"]
    assert {row["case"] for row in finding.rows} <= some
    assert re.search(r"^(1 .* with lesions, is|\d+ .* with lesions, are) below 3", finding.message)


def test_near_misses_in_two_scans_suggest_radii_there():
    # 8 mm lesions in 20 scans, all found, but in two scans by candidates 6 mm off.
    cases = tuple(f"s{k}" for k in range(40))
    lesions = [(case, 10.0 * k, 0.0, 0.0, 8.0) for k, case in enumerate(cases[:20])]
    candidates = [
        (case, x + (6.0 if case in ("s3", "s7") else 1.0 * (-1) ** k), 0.0, 0.0, 0.5 + k / 100)
        for k, (case, x, *_) in enumerate(lesions)
    ]
    finding = GOOD.change(
        cases=cases, lesions=lesions, candidates=candidates, excluded=[]
    ).findings()["diameters_are_radii"]
    assert finding.level.value == "note"
    assert "2 of 20 lesions, in 2 of 20 scans with lesions, are missed" in finding.message
    assert {row["case"] for row in finding.rows} == {"s3", "s7"}


def test_lesions_that_all_but_touch_a_candidate_suggest_radii():
    # Candidates 4.3 mm off in any direction, where 8 mm lesions reach 4 mm.
    signs = np.random.default_rng(0).choice([-2.5, 2.5], (len(GOOD.candidates), 3))
    rows = [
        (r[0], *(np.array(r[1:4]) + sign), r[4])
        for r, sign in zip(GOOD.candidates, signs, strict=True)
    ]
    near = GOOD.change(lesions=[(*r[:4], 8.0) for r in GOOD.lesions], candidates=rows)
    message = near.findings()["diameters_are_radii"].message
    assert "are missed despite a candidate within one diameter" in message


def test_diameters_in_micrometres_are_noticed():
    assert "diameters_too_large" in sized(lambda d: d * 1000).warnings()


def test_a_forgotten_list_of_excluded_findings_is_noted():
    message = GOOD.change(excluded=[]).findings()["no_excluded_findings"].message
    assert "LUNA16 does" in message


@pytest.mark.parametrize("size", [np.nan, 0.0, -3.0])
def test_excluded_findings_without_a_diameter_are_noted(size):
    rows = [(*r[:4], size) for r in GOOD.excluded]
    finding = GOOD.change(excluded=rows).findings()["excluded_without_diameter"]
    assert "10 mm is used, as for LUNA16's -1" in finding.message


def test_a_list_of_scans_made_from_the_annotations_is_noted():
    ill = tuple(dict.fromkeys(r[0] for r in GOOD.lesions))
    rows = [r for r in GOOD.candidates if r[0] in ill]
    only = GOOD.change(
        cases=ill, candidates=rows, excluded=[r for r in GOOD.excluded if r[0] in ill]
    )
    assert "no_healthy_scans" in only.findings()
    assert "no_healthy_scans" not in GOOD.findings()
