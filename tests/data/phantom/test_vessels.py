import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_det.data.phantom.vessels import Growth, grow_tree

GROWTH = Growth(back=0.25, step_mm=7.0, tip_mm=0.5, murray=2.7)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.integers(1, 40))
def test_every_target_is_reached_and_every_piece_hangs_on_another_or_the_root(seed, n):
    rng = np.random.default_rng(seed)
    root, targets = np.zeros(3), rng.uniform(-80, 80, (n, 3))
    tree = grow_tree(root, targets, GROWTH, rng)
    missed_mm = np.linalg.norm(targets[:, None] - tree.end_mm, axis=2).min(axis=1)
    assert missed_mm.max() < 1e-9
    ends = {tuple(p) for p in tree.end_mm}
    assert {tuple(p) for p in tree.start_mm} <= ends | {(0.0, 0.0, 0.0)}


def test_a_trunk_with_two_tips_obeys_murrays_law():
    targets = np.array([[20.0, 0, 0], [40.0, 10, 0], [40.0, -10, 0]])
    tree = grow_tree(np.zeros(3), targets, GROWTH, np.random.default_rng(0))
    assert tree.end_radius_mm.min() == 0.5
    assert tree.end_radius_mm.max() == pytest.approx(0.5 * 2 ** (1 / 2.7))


def test_vessels_do_not_thicken_away_from_the_root():
    rng = np.random.default_rng(1)
    tree = grow_tree(np.zeros(3), rng.uniform(-60, 60, (50, 3)), GROWTH, rng)
    assert (tree.start_radius_mm >= tree.end_radius_mm).all()
