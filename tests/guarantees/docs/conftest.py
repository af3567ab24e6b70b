"""Files that pages take for granted are tests of their projects, not of this one."""

collect_ignore = ["pages"]
