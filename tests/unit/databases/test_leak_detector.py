"""Who changed what all databases share, from what several processes saw of it."""

from __future__ import annotations

import json

from elefast.databases.leak_detector import ClusterChanges, ClusterLeakDetector, leaks_of


def _sent(watch: ClusterLeakDetector) -> ClusterChanges:
    """As the controller of pytest-xdist has it from a worker."""
    findings = watch.findings()
    assert findings
    return ClusterChanges.from_dict(json.loads(json.dumps(findings.to_dict())))


def _lines(*watches: ClusterLeakDetector) -> list[str]:
    return [f"{leak.test}: {leak.text}" for leak in leaks_of([_sent(watch) for watch in watches])]


def test_the_test_between_two_looks_is_named() -> None:
    """New, gone, and other than before; what is as it was is not told."""
    watch = ClusterLeakDetector()
    watch.look(lambda: {"old": "", "role": "1", "same": ""})
    watch.began("first")
    watch.ended("first")
    watch.look(lambda: {"old": "", "role": "1", "same": ""})
    watch.began("second")
    watch.ended("second")
    watch.look(lambda: {"new": "", "role": "2", "same": ""})
    watch.began("third")
    watch.look(lambda: {"new": "", "role": "2", "same": ""})
    assert _lines(watch) == ["second: new is new", "second: old is gone", "second: role is other than before"]


def test_what_is_undone_later_is_no_leak() -> None:
    """Also where another test puts it right."""
    watch = ClusterLeakDetector()
    watch.look(lambda: {"role": "1"})
    watch.began("first")
    watch.look(lambda: {"role": "2", "new": ""})
    watch.look(lambda: {"role": "1"})
    assert _lines(watch) == []


def test_who_was_rolled_back_did_nothing() -> None:
    """Only those that may have done it are named."""
    watch = ClusterLeakDetector()
    watch.look(dict)
    for test in ("first", "second"):
        watch.began(test)
    watch.ended("first", undone=True)
    watch.ended("second")
    watch.look(lambda: {"new": ""})
    assert _lines(watch) == ["second: new is new"]


def test_a_slot_may_be_of_who_was_rolled_back() -> None:
    """No transaction undoes it."""
    watch = ClusterLeakDetector()
    watch.look(dict)
    for test in ("first", "second"):
        watch.began(test)
        watch.ended(test, undone=test == "first")
    watch.look(lambda: {'replication slot "s"': "", 'role "r"': ""})
    assert _lines(watch) == ['first or second: replication slot "s" is new', 'second: role "r" is new']


def test_processes_know_together_when_it_happened() -> None:
    """The one that looks more often tells which test of the other one it cannot have been."""
    slow, quick = ClusterLeakDetector(), ClusterLeakDetector()
    for watch in (slow, quick):
        watch.look(dict)
    slow.began("long ago")
    slow.ended("long ago")
    quick.look(dict)
    slow.began("culprit")
    quick.look(lambda: {"new": ""})
    slow.ended("culprit")
    slow.look(lambda: {"new": ""})
    assert _lines(slow, quick) == ["culprit: new is new"]


def test_what_another_process_saw_to_be_gone_is_no_leak() -> None:
    """A test of another process had a role for a while; who looks last is right."""
    early, late = ClusterLeakDetector(), ClusterLeakDetector()
    for watch in (early, late):
        watch.look(dict)
    early.began("innocent")
    early.look(lambda: {"for a while": ""})
    late.look(dict)
    assert _lines(early, late) == []


def test_who_came_when_it_was_there_already_says_nothing() -> None:
    """And nothing against what others saw."""
    first, second = ClusterLeakDetector(), ClusterLeakDetector()
    first.look(dict)
    first.began("culprit")
    first.look(lambda: {"new": ""})
    second.look(lambda: {"new": ""})
    second.began("innocent")
    second.look(lambda: {"new": ""})
    assert _lines(first, second) == ["culprit: new is new"]


def test_of_many_tests_some_are_named() -> None:
    """In the order in which they began."""
    watch = ClusterLeakDetector()
    watch.look(dict)
    for number in range(9):
        watch.began(f"t{number}")
    watch.look(lambda: {"new": ""})
    assert _lines(watch) == ["t0 or t1 or t2 or t3 or one of 5 others: new is new"]
