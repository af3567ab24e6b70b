"""Random edits: no template is ever taken that is not what the project would build now, and few are built in vain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elefast.migrators import Function, Plan
from elefast.templates.fingerprint import Input
from elefast.templates.manifest import Manifest
from tests.integration.migrators.conftest import DatabaseFactory
from tests.integration.migrators.migrator_support import tables
from tests.robustness.fuzz.fuzz_support import ROUNDS, SEED
from tests.robustness.fuzz.world import World


@dataclass
class Built:
    """A template as the server would keep it."""

    inputs: Sequence[Input]
    manifest: Manifest
    tables: list[str]


class Harness:
    """What a run of tests does with a project, without a stack around it."""

    def __init__(self, world: World, new_database: DatabaseFactory) -> None:
        self.world = world
        self.new_database = new_database
        self.templates: list[Built] = []
        world.look = self.fitting  # type: ignore[assignment,method-assign]

    def plan(self) -> Plan:
        """A plan as the next run makes it."""
        return Plan(root=self.world.root, migrator=Function("creating:create"))

    def fitting(self) -> list[Built]:
        """The templates that would be taken."""
        plan = self.plan()
        inputs = plan.inputs()
        return [built for built in self.templates if built.inputs == inputs and not plan.still_fits(built.manifest)]

    def why(self) -> list[str]:
        """Why no template fits."""
        return [str(self.plan().still_fits(built.manifest)) for built in self.templates]

    def build(self) -> None:
        """Build a template of what is there now."""
        plan = self.plan()
        inputs = plan.inputs()
        url = self.new_database()
        manifest = plan.build(url)
        self.templates.append(Built(inputs, manifest, tables(url)))


def test_random_edits(world: World, new_database: DatabaseFactory) -> None:
    """After each of many random edits only a template that is right is found, and after a harmless one it is found."""
    print(f"TEST_FUZZ_SEED={SEED} TEST_FUZZ_ROUNDS={ROUNDS}")
    harness = Harness(world, new_database)
    harness.build()
    assert harness.templates[0].tables == world.schema()
    for number in range(ROUNDS):
        before = world.snapshot()
        is_harmless = world.chance.random() < 0.4
        action = world.chance.choice(world.harmless if is_harmless else world.harmful)
        print(number, action.__name__)
        action()
        now = world.schema()
        fitting = harness.fitting()
        assert all(built.tables == now for built in fitting), "a stale template was taken"
        if is_harmless:
            assert fitting, f"built in vain: {harness.why()}"
        if fitting:
            continue
        if world.chance.random() < 0.2:
            harness.build()
            assert harness.templates[-1].tables == now, "the build ran something else than the sources"
            assert harness.fitting(), f"does not fit at once: {harness.why()}"
        else:
            world.restore(before)
            print("  undone")
            assert harness.fitting(), f"what was there before is not found again: {harness.why()}"
