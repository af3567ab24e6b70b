"""The separate interpreter in which code of the project builds a template, and what watches that code."""
