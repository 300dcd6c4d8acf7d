"""The generator's distributions against LIDC-IDRI's published ones, within sampling error."""

import json
import math

import numpy as np
import pytest

from nodule_det.data.phantom.statistics import (
    DIAMETER_MM,
    SCANS_WITH,
    SMALLEST_NONSOLID_MM,
    Kind,
    Texture,
    draw_count,
    draw_diameter_mm,
    draw_excluded,
    draw_nodule,
)

N = 4000


@pytest.fixture(scope="module")
def nodules():
    rng = np.random.default_rng(0)
    return [draw_nodule(rng) for _ in range(N)]


@pytest.fixture(scope="module")
def lidc(shared):
    return json.loads((shared / "data" / "lidc_statistics.json").read_text())["thin"]


def assert_share(hits, expected):
    """Four standard errors of a share, so that one seed in 16,000 would fail."""
    share = np.mean(hits)
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / len(hits))


def test_texture_shares_are_those_of_the_readers(nodules, lidc):
    of = {
        Texture.SOLID: lidc["texture_solid>=4"],
        Texture.PART_SOLID: lidc["texture_part_2.5-4"],
        Texture.GROUND_GLASS: lidc["texture_ggo<2.5"],
    }
    for texture, count in of.items():
        assert_share([n.texture is texture for n in nodules], count / 1192)


def test_spiculated_and_calcified_shares_are_those_of_the_readers(nodules, lidc):
    assert_share([n.spiculated for n in nodules], lidc["spiculation>=3"] / 1192)
    assert_share([n.calcified for n in nodules], lidc["calcified(<5.5)"] / 1192)


def test_only_solid_nodules_are_calcified_and_no_small_one_is_a_haze(nodules):
    assert all(n.texture is Texture.SOLID for n in nodules if n.calcified)
    hazy = [n.diameter_mm for n in nodules if n.texture is not Texture.SOLID]
    assert min(hazy) >= SMALLEST_NONSOLID_MM


def test_diameters_have_luna16s_median_and_mean_of_logarithms():
    rng = np.random.default_rng(1)
    log_d = np.log([draw_diameter_mm(rng) for _ in range(N)])
    assert np.exp(np.median(log_d)) == pytest.approx(6.4, rel=0.04)
    assert log_d.mean() == pytest.approx(1.99, abs=4 * 0.5 / math.sqrt(N))
    assert np.exp(log_d.min()) >= DIAMETER_MM[0]
    assert np.exp(log_d.max()) <= DIAMETER_MM[-1]


def test_half_a_millimetre_less_than_the_readers_outlines(lidc):
    outline_mm = [lidc["equiv_d"][p] for p in ("p5", "p25", "p50", "p75", "p95")]
    np.testing.assert_allclose(np.array(outline_mm) - 0.5, DIAMETER_MM[1:-1], atol=0.1)


def test_zero_nodules_per_scan_means_as_many_as_in_lidc(lidc):
    assert {str(k): v for k, v in SCANS_WITH.items()} == lidc["per_scan_counts"]
    rng = np.random.default_rng(2)
    counts = [draw_count(0, rng) for _ in range(N)]
    assert_share([c == 0 for c in counts], 290 / 897)
    assert np.mean(counts) == pytest.approx(lidc["per_scan_mean"], abs=4 * 1.5 / math.sqrt(N))


def test_a_mean_given_is_a_poisson_mean():
    rng = np.random.default_rng(3)
    counts = [draw_count(2.0, rng) for _ in range(N)]
    assert np.mean(counts) == pytest.approx(2, abs=4 * math.sqrt(2 / N))
    assert np.var(counts) == pytest.approx(2, abs=0.3)


def test_excluded_findings_are_never_nodules_and_micronodules_are_under_3_mm():
    rng = np.random.default_rng(4)
    found = [nodule for _ in range(300) for nodule in draw_excluded(rng)]
    assert {n.kind for n in found} == {Kind.MICRONODULE, Kind.GRANULOMA, Kind.PLAQUE}
    assert max(n.diameter_mm for n in found if n.kind is Kind.MICRONODULE) < 3
    assert len(found) / 300 == pytest.approx(0.8 + 0.3 + 0.4, abs=4 * math.sqrt(1.5 / 300))
