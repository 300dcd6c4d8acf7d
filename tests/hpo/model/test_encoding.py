import numpy as np
import pytest

from nodule_det.hpo.model.encoding import Features, nearby, neighbours
from nodule_det.hpo.space.parsing import parse_space, read_space
from nodule_det.hpo.space.space import point_key

NOMURA = read_space("nomura")
MIXED = parse_space(
    {
        "parameters": {
            "lr": {"kind": "float", "low": 1.0e-4, "high": 1.0e-2, "log": True},
            "filters": {"kind": "int", "low": 4, "high": 16, "step": 2},
            "depth": {"kind": "int", "low": 2, "high": 4},
            "loss": {"kind": "categorical", "values": ["dice", "focal", "ce"]},
            "flip": {"kind": "bool"},
            "shift": {"kind": "int", "low": 0, "high": 10, "when": {"flip": [True]}},
        }
    }
)


def test_every_column_follows_its_own_scale():
    params = {"lr": 1e-3, "filters": 8, "depth": 3, "loss": "focal", "flip": True, "shift": 5}
    (columns,) = Features(MIXED).matrix([params])
    assert columns == pytest.approx(
        [
            0.5,  # lr
            0.5,  # filters, 4 to 16 is a factor of four: 8 is half way on the log scale
            0.5,  # depth
            *(0.0, 0.5**0.5, 0.0),  # loss: dice, focal, ce
            1.0,  # flip
            0.5,  # shift
        ]
    )


def test_two_values_of_an_unordered_list_are_as_far_apart_as_the_ends_of_a_scale():
    base = {"lr": 1e-3, "filters": 8, "depth": 3, "loss": "dice", "flip": False}
    a, b = Features(MIXED).matrix([base, base | {"loss": "ce"}])
    assert np.linalg.norm(a - b) == pytest.approx(1.0)


def test_an_absent_parameter_is_in_the_middle():
    params = {"lr": 1e-3, "filters": 8, "depth": 3, "loss": "dice", "flip": False}
    assert Features(MIXED).matrix([params])[0, -1] == 0.5


def test_a_dependent_bound_stretches_the_scale():
    rng = np.random.default_rng(0)
    params = NOMURA.sample(rng) | {"augment.copies": 2, "augment.rotate": True}
    column = [p.name for p in NOMURA.free].index("augment.shift_vox")  # one for each parameter
    small = params | {"patches.size_vox": 32, "augment.shift_vox": 16}
    large = params | {"patches.size_vox": 64, "augment.shift_vox": 16}
    assert list(Features(NOMURA).matrix([small, large])[:, column]) == [1.0, 0.5]


def test_neighbours_are_points_of_the_space_mostly_near():
    rng = np.random.default_rng(1)
    params = NOMURA.sample(rng)
    near = neighbours(NOMURA, params, 200, rng)
    assert all(NOMURA.check(p) == p for p in near)
    changed = [sum(p.get(k) != v for k, v in params.items()) for p in near]
    assert np.mean(changed) < 5
    assert any(changed)


def test_features_lie_in_the_unit_cube():
    rng = np.random.default_rng(2)
    for space in (NOMURA, MIXED):
        x = Features(space).matrix([space.sample(rng) for _ in range(200)])
        assert x.shape == (200, Features(space).dimension)
        assert x.min() >= 0
        assert x.max() <= 1


MANY = [
    NOMURA,
    MIXED,
    parse_space(
        {
            "parameters": {
                "size": {"kind": "fixed", "value": 8},
                "kind": {"kind": "categorical", "values": ["a", "b"]},
                "word": {"kind": "categorical", "values": ["x", "y", "z"], "when": {"kind": ["b"]}},
                "half": {"kind": "float", "low": 1, "high": 9, "at_most": {"of": "size"}},
                "deep": {"kind": "float", "low": 0, "high": 1, "when": {"word": ["x", "z"]}},
                "log": {"kind": "int", "low": 1, "high": 100, "log": True},
            }
        }
    ),
]


@pytest.mark.parametrize("space", MANY)
def test_encoding_coordinates_equals_encoding_their_points(space):
    rng = np.random.default_rng(3)
    units = rng.random((300, space.dimension))
    units[0], units[1] = 0.0, 1.0
    features = Features(space)
    slowly = features.matrix([space.from_unit(u) for u in units])
    assert features.of_units(units) == pytest.approx(slowly, abs=1e-12)


@pytest.mark.parametrize("space", MANY)
def test_different_points_have_different_inputs(space):
    rng = np.random.default_rng(4)
    points = [space.sample(rng) for _ in range(300)]
    keys = {point_key(p) for p in points}
    rows = {row.tobytes() for row in np.round(Features(space).matrix(points), 9)}
    assert len(rows) == len(keys)


def test_coordinates_near_several_centers_keep_their_order():
    centers = np.array([[0.1] * 6, [0.9] * 6])
    near = nearby(centers, 400, np.random.default_rng(5))
    assert near.shape == (800, 6)
    assert np.median(near[:400]) == 0.1
    assert np.median(near[400:]) == 0.9
    assert ((near >= 0) & (near <= 1)).all()


@pytest.mark.parametrize(("rates", "sheared"), [(1, 1), (10, 10), (11, 0)])
def test_a_space_of_many_log_scales_has_no_learning_rate(rates, sheared):
    log = {"kind": "float", "low": 1e-12, "high": 1, "log": True}
    parameters = {f"x{i}": log for i in range(rates)} | {"n": {"kind": "int", "low": 1, "high": 9}}
    assert len(Features(parse_space({"parameters": parameters})).columns.sheared) == sheared
