"""Who changed what all databases share, from what several processes saw of it."""

from __future__ import annotations

import json

from elefast.databases.cluster_leak_detector import ClusterChanges, ClusterLeakDetector, cluster_leaks


def _sent(detector: ClusterLeakDetector) -> ClusterChanges:
    """As the controller of pytest-xdist has it from a worker."""
    changes = detector.changes()
    assert changes
    return ClusterChanges.from_dict(json.loads(json.dumps(changes.to_dict())))


def _lines(*detectors: ClusterLeakDetector) -> list[str]:
    return [f"{leak.test}: {leak.text}" for leak in cluster_leaks([_sent(detector) for detector in detectors])]


def test_the_test_between_two_looks_is_named() -> None:
    """New, gone, and other than before; what is as it was is not told."""
    detector = ClusterLeakDetector()
    detector.compare(lambda: {"old": "", "role": "1", "same": ""})
    detector.began("first")
    detector.ended("first")
    detector.compare(lambda: {"old": "", "role": "1", "same": ""})
    detector.began("second")
    detector.ended("second")
    detector.compare(lambda: {"new": "", "role": "2", "same": ""})
    detector.began("third")
    detector.compare(lambda: {"new": "", "role": "2", "same": ""})
    assert _lines(detector) == ["second: new is new", "second: old is gone", "second: role is other than before"]


def test_a_test_that_ends_during_a_snapshot_is_named_by_the_next_one() -> None:
    """What it did after PostgreSQL had answered is not in that snapshot."""
    detector = ClusterLeakDetector()
    detector.compare(dict)
    detector.began("culprit")

    def answered_before() -> dict[str, str]:
        detector.ended("culprit")
        return {}

    detector.compare(answered_before)
    detector.began("innocent")
    detector.ended("innocent")
    detector.compare(lambda: {"new": ""})
    assert _lines(detector) == ["culprit or innocent: new is new"]


def test_what_is_undone_later_is_no_leak() -> None:
    """Also where another test puts it right."""
    detector = ClusterLeakDetector()
    detector.compare(lambda: {"role": "1"})
    detector.began("first")
    detector.compare(lambda: {"role": "2", "new": ""})
    detector.compare(lambda: {"role": "1"})
    assert _lines(detector) == []


def test_who_was_rolled_back_did_nothing() -> None:
    """Only those that may have done it are named."""
    detector = ClusterLeakDetector()
    detector.compare(dict)
    for test in ("first", "second"):
        detector.began(test)
    detector.ended("first", rolled_back=True)
    detector.ended("second")
    detector.compare(lambda: {"new": ""})
    assert _lines(detector) == ["second: new is new"]


def test_a_slot_may_be_of_who_was_rolled_back() -> None:
    """No transaction undoes it."""
    detector = ClusterLeakDetector()
    detector.compare(dict)
    for test in ("first", "second"):
        detector.began(test)
        detector.ended(test, rolled_back=test == "first")
    detector.compare(lambda: {'replication slot "s"': "", 'role "r"': ""})
    assert _lines(detector) == ['first or second: replication slot "s" is new', 'second: role "r" is new']


def test_processes_know_together_when_it_happened() -> None:
    """The one that looks more often tells which test of the other one it cannot have been."""
    slow, quick = ClusterLeakDetector(), ClusterLeakDetector()
    for detector in (slow, quick):
        detector.compare(dict)
    slow.began("long ago")
    slow.ended("long ago")
    quick.compare(dict)
    slow.began("culprit")
    quick.compare(lambda: {"new": ""})
    slow.ended("culprit")
    slow.compare(lambda: {"new": ""})
    assert _lines(slow, quick) == ["culprit: new is new"]


def test_what_another_process_saw_to_be_gone_is_no_leak() -> None:
    """A test of another process had a role for a while; who looks last is right."""
    early, late = ClusterLeakDetector(), ClusterLeakDetector()
    for detector in (early, late):
        detector.compare(dict)
    early.began("innocent")
    early.compare(lambda: {"for a while": ""})
    late.compare(dict)
    assert _lines(early, late) == []


def test_who_came_when_it_was_there_already_says_nothing() -> None:
    """And nothing against what others saw."""
    first, second = ClusterLeakDetector(), ClusterLeakDetector()
    first.compare(dict)
    first.began("culprit")
    first.compare(lambda: {"new": ""})
    second.compare(lambda: {"new": ""})
    second.began("innocent")
    second.compare(lambda: {"new": ""})
    assert _lines(first, second) == ["culprit: new is new"]


def test_of_many_tests_some_are_named() -> None:
    """In the order in which they began."""
    detector = ClusterLeakDetector()
    detector.compare(dict)
    for number in range(9):
        detector.began(f"t{number}")
    detector.compare(lambda: {"new": ""})
    assert _lines(detector) == ["t0 or t1 or t2 or t3 or one of 5 others: new is new"]
