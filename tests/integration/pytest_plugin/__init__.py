"""The pytest plugin, from outside: little projects whose tests are run."""
