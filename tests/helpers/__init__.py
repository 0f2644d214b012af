"""Modules that several test files share: inputs, comparators, programs to run."""
