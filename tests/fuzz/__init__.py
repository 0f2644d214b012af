"""A structured fuzzer of the ops: `make fuzz`, or `PYTHONPATH=tests python -m fuzz --help`.

problems.py makes a valid call of an op, layouts.py lays its arrays out in memory in unusual ways, mutations.py breaks
it now and then, judge.py says whether the op did what it promises, runner.py runs calls in a process that may crash,
and report.py counts. A call depends on its seed and its number alone, so that any of them can be repeated.
"""
