"""A plug-in of pytest that says what came of each test, a line each, into the file named by $OUTCOMES."""

import os

OUT = open(os.environ["OUTCOMES"], "w")
RAN = [0]


def pytest_runtest_logreport(report):
    # What is set up and torn down around a test counts where it went wrong.
    if report.when == "call" or report.outcome != "passed":
        RAN[0] += 1
        print(report.outcome, report.nodeid.replace(" ", "_"), file=OUT, flush=True)


def pytest_collectreport(report):
    # A module that cannot be imported.
    if report.failed:
        print("unloaded", report.nodeid.replace(" ", "_"), file=OUT, flush=True)


def pytest_sessionfinish():
    print("ran", RAN[0], file=OUT, flush=True)
