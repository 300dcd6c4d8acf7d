"""A driver on a batch system in memory and a virtual clock, for the tests of the driver."""

import os

from nodule_det.config.hpo import AcquisitionConfig, DispatcherConfig, HpoConfig, Strategy
from nodule_det.hpo.driver.clock import VirtualClock
from nodule_det.hpo.driver.context import DriverContext
from nodule_det.hpo.driver.driver import Driver
from nodule_det.hpo.simulate.dispatcher import FakeDispatcher, FakeRun
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.strategy.random_search import propose_random
from nodule_det.hpo.study.study import Header, StudyFolder, StudyWriter, read_study
from nodule_det.runs import RunResult, RunStatus

HOUR = 3600.0
SPACE = parse_space({"parameters": {"optim.lr": {"kind": "float", "low": 0.001, "high": 0.01}}})


def complete(overrides, attempt):
    """A training of an hour whose value is a hundred times its learning rate."""
    value = 100 * overrides["optim.lr"]
    result = RunResult(status=RunStatus.COMPLETE, pauc=value, pauc_se=0.02)
    return FakeRun(seconds=HOUR, result=result)


def failing(code, reason):
    result = RunResult(status=RunStatus.FAILED, reason=reason, message="as the test wants it")
    return lambda overrides, attempt: FakeRun(seconds=60.0, result=result, code=code)


class Lab:
    """A study, a driver that can be killed and started again, and a fake batch system."""

    def __init__(self, path, training=complete, *, slots=1_000_000, faults=None, **config):
        self.folder = StudyFolder(path)
        path.mkdir(exist_ok=True)
        self.clock = VirtualClock()
        self.batch = FakeDispatcher(self.clock, training, slots=slots, faults=faults)
        config.setdefault("workers", 4)
        config.setdefault("trials", 12)
        config.setdefault("acquisition", AcquisitionConfig(strategy=Strategy.random))
        config.setdefault("dispatcher", DispatcherConfig(poll_s=30, grace_s=60))
        self.config = HpoConfig(study=str(path), **config)
        self.propose = propose_random
        self.said = []
        self.space = SPACE
        self.writer = None

    def start(self):
        if self.writer is not None:
            self.writer.close()
        made = os.path.lexists(self.folder.journal)
        header = None if made else Header(id="cafe", space=self.space)
        self.writer = StudyWriter(self.folder, self.clock.now, header)
        self.driver = Driver(
            DriverContext(
                writer=self.writer,
                dispatcher=self.batch,
                propose=self.propose,
                config=self.config,
                clock=self.clock,
                workdir=self.folder.path,
                say=self.said.append,
            )
        )
        return self.driver

    def run(self):
        assert self.start().run()
        return self.study

    @property
    def study(self):
        return read_study(self.folder.path)

    def starts(self):
        return sorted(self.batch.starts.values())
