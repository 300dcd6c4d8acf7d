"""A phantom scan: what is annotated must be seen in its voxels."""

from dataclasses import replace

import numpy as np
import pytest

from nodule_det.config.data import PhantomConfig, PhantomScanners, PhantomShapes
from nodule_det.data.phantom import make
from nodule_det.data.phantom.make import make_scan
from nodule_det.errors import ConfigError

SMALL = PhantomConfig(size_vox=[64, 128, 128], nodules_per_scan=4)
LUNG_HU = -850
EARLIER_MM = (
    (-38.8144, -63.1889, -113.5846),
    (61.7421, -2.1649, -30.4542),
    (49.4353, -20.0771, -18.5063),
    (66.4639, 45.3436, -161.9975),
)


@pytest.fixture(scope="module")
def scans():
    """Eight small scans with 32 nodules or so."""
    return [make_scan(seed, SMALL) for seed in range(8)]


def hu_at(scan, finding):
    return int(scan.volume_hu[tuple(np.rint(scan.grid.to_voxel(finding.center_mm)).astype(int))])


def test_same_seed_same_bytes():
    (first, findings), (second, again) = make_scan(7, SMALL), make_scan(7, SMALL)
    assert first.volume_hu.tobytes() == second.volume_hu.tobytes()
    assert first.grid == second.grid
    assert findings == again


def test_another_seed_is_another_scan_with_another_uid(scans):
    (a, _), (b, _) = scans[:2]
    assert a.series_uid != b.series_uid
    assert (a.volume_hu != b.volume_hu).mean() > 0.5


def test_other_settings_have_another_uid():
    other = PhantomConfig(size_vox=[64, 128, 128], nodules_per_scan=3)
    assert make_scan(0, other)[0].series_uid != make_scan(0, SMALL)[0].series_uid


def test_scans_of_earlier_versions_keep_their_bytes_and_uids():
    scan, findings = make_scan(7, SMALL)  # as made at 59d8a5c
    assert scan.series_uid == "2.25.278967546697784048810335865594131370856"
    assert len(findings) == len(EARLIER_MM)
    np.testing.assert_allclose([f.center_mm for f in findings], EARLIER_MM, atol=1e-3)


@pytest.mark.parametrize("setting", [{"shapes": "even"}, {"scanners": "varied"}])
def test_shapes_and_scanners_make_other_scans_with_other_uids(setting):
    enums = {"shapes": PhantomShapes, "scanners": PhantomScanners}
    changed = {name: enums[name](value) for name, value in setting.items()}
    config = replace(SMALL, **changed)
    (scan, findings), (again, _) = make_scan(7, config), make_scan(7, config)
    before, _ = make_scan(7, SMALL)
    assert scan.series_uid != before.series_uid
    assert scan.volume_hu.tobytes() == again.volume_hu.tobytes()
    assert (scan.volume_hu != before.volume_hu).any()
    shaped = {"lobulation", "sphericity", "margin", "cavity"}
    lesions = [f for f in findings if not f.excluded]
    assert lesions
    assert all((shaped <= f.attributes.keys()) == ("shapes" in setting) for f in lesions)


def test_every_finding_lies_in_the_scan(scans):
    assert all(scan.grid.contains(f.center_mm) for scan, findings in scans for f in findings)


def test_nodules_are_denser_than_lung_where_they_are_annotated(scans):
    seen = [
        (hu_at(scan, f), f.attributes["texture"])
        for scan, findings in scans
        for f in findings
        if not f.excluded and f.diameter_mm > 8
    ]
    assert len(seen) > 5
    assert all(hu > LUNG_HU + 100 for hu, _ in seen)
    assert all(hu > -150 for hu, texture in seen if texture == "solid")


def test_a_solid_isolated_nodule_segments_to_its_volume_around_its_centre():
    sizes = PhantomConfig(nodules_per_scan=6)
    scan, findings = make_scan(0, sizes)
    spacing = np.array(scan.grid.spacing_mm)
    measured = 0
    for f in findings:
        what = f.attributes
        if f.excluded or what["texture"] != "solid" or what["attachment"] != "isolated":
            continue
        if what["calcified"] == "yes" or what["spiculation"] == "yes" or f.diameter_mm < 6:
            continue
        middle = np.rint(scan.grid.to_voxel(f.center_mm)).astype(int)
        reach = np.ceil((f.diameter_mm / 2 + 1) / spacing).astype(int)
        box = tuple(slice(m - r, m + r + 1) for m, r in zip(middle, reach, strict=True))
        voxels = np.argwhere(scan.volume_hu[box] > -400) + middle - reach
        away_mm = np.linalg.norm(scan.grid.to_world(voxels) - f.center_mm, axis=1)
        own = voxels[away_mm < f.diameter_mm / 2 + 1]
        diameter_mm = (6 * len(own) * spacing.prod() / np.pi) ** (1 / 3)
        assert diameter_mm == pytest.approx(f.diameter_mm, rel=0.2)
        assert np.linalg.norm(scan.grid.to_world(own.mean(axis=0)) - f.center_mm) < 1.5
        measured += 1
    assert measured >= 1


def test_the_chest_has_air_around_lungs_inside_and_bone(scans):
    for scan, _ in scans[:3]:
        hu = scan.volume_hu
        middle = hu[:, 64, :]
        assert np.median(hu[:, :4, :]) == pytest.approx(-1000, abs=20)
        assert 0.1 < (middle < -700)[:, 24:104].mean() < 0.7
        assert (hu > 250).mean() > 0.002


def test_vessels_and_walls_fill_some_of_the_lung():
    scan, _ = make_scan(1, PhantomConfig())
    lung = scan.volume_hu[50:80, 100:150, 40:90]  # in the right lung, whatever the seed
    assert 0.01 < (lung > -600).mean() < 0.15
    assert np.median(lung) == pytest.approx(LUNG_HU, abs=50)


def test_nodules_without_a_place_name_the_settings(monkeypatch):
    monkeypatch.setattr(make, "REDRAWS", 0)  # 20 nodules find one nearly always
    with pytest.raises(ConfigError, match=r"phantom\.nodules_per_scan=20.*ask for fewer"):
        make_scan(0, PhantomConfig(size_vox=[32, 32, 32], nodules_per_scan=20))
