"""The tests of elefast."""
