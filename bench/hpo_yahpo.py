"""Tuning problems that the surrogates of YAHPO Gym predict: LCBench and XGBoost.

    YAHPO/lcbench, YAHPO/rbv2_xgboost ──▶ truth(points), train(params, rng) ──▶ FakeRun

Each folder holds ``model.onnx``, ``config_space.json`` and ``encoding.json`` of
https://github.com/slds-lmu/yahpo_data (Pfisterer et al. 2022, YAHPO Gym), which do not travel with
this repository.  The surrogates are neural networks fitted to many real trainings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.hpo.simulate.dispatcher import FakeRun
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.space.space import Params
from nodule_det.hpo.study.trial import Observation
from nodule_det.runs import RunResult, RunStatus

YAHPO = Path(__file__).parents[2] / "shared/hpo"
Settings = dict[str, Any]


def complete(value: float, se: float | None, curve: tuple[Observation, ...], s: float) -> FakeRun:
    """Return a training that ends after ``s`` virtual seconds with a value in [0, 1]."""
    result = RunResult(status=RunStatus.COMPLETE, pauc=value, pauc_se=se, seconds=s)
    return FakeRun(seconds=s, result=result, curve=curve)


class Surrogate:
    """The files of one scenario of YAHPO Gym."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._model = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
            space = json.loads((folder / "config_space.json").read_text())
            self._codes = json.loads((folder / "encoding.json").read_text())
        except Exception as error:
            raise SystemExit(f"{folder} holds no surrogate of YAHPO Gym: {error}") from None
        self.settings: dict[str, Settings] = {s["name"]: s for s in space["hyperparameters"]}
        self.conditions: list[Settings] = space["conditions"]

    def code(self, name: str, choice: Any) -> int:
        """Return the input for a choice of a list."""
        return int(self._codes[name][choice])

    def data_set(self, name: str, number: int) -> int:
        """Return the input for one of the data sets, which are the choices of the list ``name``."""
        return self.code(name, self.settings[name]["choices"][number])

    def predict(self, numbers: FloatArray, codes: Sequence[Sequence[int]]) -> FloatArray:
        """Return the outputs of (n, .) numbers and codes of lists, in the scenario's order."""
        inputs = {"x_cont": numbers.astype(np.float32), "x_cat": np.array(codes, np.int32)}
        return np.asarray(self._model.run(None, inputs)[0], float)


class LcBench:
    """One data set of LCBench: validation accuracy after 52 epochs, with a curve of nine points."""

    EPOCHS = (6, 12, 18, 24, 30, 36, 42, 48, 52)
    NOISE_SD = 0.003
    MINUTE_S = 600.0
    """Virtual seconds of a minute of LCBench, so that trainings are long beside a poll."""
    NAMES = (
        "batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units",
        "max_dropout",
    )  # fmt: skip

    def __init__(self, number: int, folder: Path = YAHPO) -> None:
        self.number = number
        self._surrogate = Surrogate(folder / "lcbench")
        self._code = self._surrogate.data_set("OpenML_task_id", number)
        settings = self._surrogate.settings
        self.space = parse_space({"parameters": {n: _parameter(settings[n]) for n in self.NAMES}})

    def _predict(self, points: Sequence[Params], epoch: int) -> FloatArray:
        columns = [[epoch, *(float(p[name]) for name in self.NAMES)] for p in points]
        return self._surrogate.predict(np.array(columns), [[self._code]] * len(points))

    def truth(self, points: Sequence[Params]) -> FloatArray:
        """Return the predicted accuracies, (n,)."""
        return np.clip(self._predict(points, self.EPOCHS[-1])[:, 1] / 100, 0, 1)

    def train(self, params: Params, rng: np.random.Generator) -> FakeRun:
        """Simulate one training; the noise is common to its curve."""
        rows = np.array([self._predict([params], epoch)[0] for epoch in self.EPOCHS])
        noise = self.NOISE_SD * rng.normal()
        values = np.clip(rows[:, 1] / 100 + noise, 1e-6, 1)
        seconds = max(60.0, self.MINUTE_S * float(rows[-1, 0]))
        curve = tuple(
            Observation(epoch, float(value), self.NOISE_SD)
            for epoch, value in zip(self.EPOCHS, values, strict=True)
        )
        return complete(float(values[-1]), self.NOISE_SD, curve, seconds)


class XgBoost:
    """One data set of XGBoost: accuracy on all of its data, over 14 parameters, 8 conditional."""

    NOISE_SD = 0.003
    NUMBERS = (
        "nrounds", "eta", "gamma", "lambda", "alpha", "subsample", "max_depth", "min_child_weight",
        "colsample_bytree", "colsample_bylevel", "rate_drop", "skip_drop",
    )  # fmt: skip
    LISTS = ("booster", "num.impute.selected.cpo")
    FIXED = (1.0, 10)
    """Fraction of the data that is used, and the repetition, as YAHPO Gym's own suites fix them."""

    def __init__(self, number: int, folder: Path = YAHPO) -> None:
        self.number = number
        self._surrogate = Surrogate(folder / "rbv2_xgboost")
        self._code = self._surrogate.data_set("task_id", number)
        settings = self._surrogate.settings
        parameters = {_plain(n): _parameter(settings[n]) for n in (*self.LISTS, *self.NUMBERS)}
        for condition in self._surrogate.conditions:
            values = condition.get("values") or [condition["value"]]
            parameters[condition["child"]]["when"] = {condition["parent"]: values}
        self.space = parse_space({"parameters": parameters})

    def truth(self, points: Sequence[Params]) -> FloatArray:
        """Return the predicted accuracies, (n,); an absent number is 0, as in YAHPO Gym."""
        numbers = [[*(float(p.get(n, 0.0)) for n in self.NUMBERS), *self.FIXED] for p in points]
        codes = [
            [self._code, *(self._surrogate.code(n, p[_plain(n)]) for n in self.LISTS)]
            for p in points
        ]
        return np.clip(self._surrogate.predict(np.array(numbers), codes)[:, 0], 1e-6, 1)

    def train(self, params: Params, rng: np.random.Generator) -> FakeRun:
        """Simulate one training; the time does not depend on the point."""
        value = self.truth([params])[0] + self.NOISE_SD * rng.normal()
        seconds = 3600 * math.exp(rng.normal(0, 0.3))
        return complete(float(np.clip(value, 1e-6, 1)), self.NOISE_SD, (), seconds)


def _plain(name: str) -> str:
    return name.split(".")[1] if "." in name else name


def _parameter(setting: Settings) -> Settings:
    if setting["type"] == "categorical":
        return {"kind": "categorical", "values": setting["choices"]}
    kind = {"uniform_int": "int", "uniform_float": "float"}[setting["type"]]
    made = {"kind": kind, "low": setting["lower"], "high": setting["upper"]}
    return made | ({"log": True} if setting["log"] else {})
