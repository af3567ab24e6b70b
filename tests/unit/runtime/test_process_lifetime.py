"""Objects are closed at the end of the process, in the order of their use, and by no forked child."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from elefast.runtime.process_lifetime import OwnerProcess, Retired


def test_an_error_of_what_is_closed_is_raised() -> None:
    """An IndexError of the object must not pass for the end of the queue."""

    def fail(item: object) -> None:
        raise IndexError("a mistake")

    retired = Retired[object](fail)
    retired.add(object())
    with pytest.raises(IndexError, match="a mistake"):
        retired.close()


def test_retired_objects_are_closed_once_and_in_order() -> None:
    """The next use of the class closes what was added since the last one."""
    closed: list[int] = []
    retired = Retired[int](closed.append)
    retired.add(1)
    retired.add(2)
    retired.close()
    retired.close()
    assert closed == [1, 2]


def test_the_end_of_the_process_closes_what_is_open() -> None:
    """Also what was retired and not closed yet; what was discarded is left alone."""
    program = """
from elefast.runtime.process_lifetime import ClosedAtExit, Retired
class Item:
    def __init__(self, name): self.name = name
    def close(self): print("closed", self.name)
retired = Retired(Item.close)
opened = ClosedAtExit()
first, second = Item("first"), Item("second")
opened.add(first)
opened.add(second)
opened.discard(second)
retired.add(Item("third"))
print("end")
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[:-1] == ["end", "closed first", "closed third"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Python cannot fork here")
def test_a_forked_child_is_not_the_owner() -> None:
    """The handlers of a fork have run before the child can ask."""
    program = """
import os
from elefast.runtime.process_lifetime import OwnerProcess, on_fork
owner, seen = OwnerProcess(), []
@on_fork
def note(): seen.append("forked")
if os.fork() == 0:
    print(owner.is_current, seen, flush=True)
    os._exit(0)
os.wait()
print(owner.is_current, seen)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[:-1] == ["False ['forked']", "True []"]


def test_the_process_that_made_it_is_the_owner() -> None:
    """In the parent nothing changes."""
    assert OwnerProcess().is_current
