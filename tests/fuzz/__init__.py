"""A structured fuzzer of the ops: `make fuzz`, or `PYTHONPATH=tests python -m fuzz --help`.

problems.py makes a valid call of an op, layouts.py gives its arrays unusual layouts in memory, mutations.py breaks
it now and then, judge.py decides whether the op kept its promises, runner.py runs calls in a process that may crash,
and report.py counts. A call depends only on its seed and its number, so that any call can be repeated.
"""
