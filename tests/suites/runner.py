"""Runs the unittest suite below the current directory and says what came of each test, a line each,
into the file named by $OUTCOMES."""

import os
import sys
import unittest


class Lines(unittest.TestResult):
    """`OUTCOME NAME`, and the last line of what went wrong."""

    def say(self, outcome, test, why=""):
        self.said.add(test.id())
        words = f"{outcome} {test.id()} {why}".split()
        print(" ".join(words), file=self.out, flush=True)

    @staticmethod
    def last(error):
        kind, value, _ = error
        text = str(value).strip().splitlines() or [""]
        return f"{kind.__name__}: {text[0]}"

    def startTest(self, test):
        super().startTest(test)
        self.said.discard(test.id())

    def addSuccess(self, test):
        if test.id() not in self.said:
            self.say("passed", test)

    def addSkip(self, test, reason):
        self.say("skipped", test, reason)

    def addFailure(self, test, error):
        self.say("failed", test, self.last(error))

    def addError(self, test, error):
        # What stands for a module that cannot be imported; its words end with the reason.
        unloaded = isinstance(test, unittest.loader._FailedTest)
        why = str(error[1]).strip().splitlines()[-1:] if unloaded else [self.last(error)]
        self.say("unloaded" if unloaded else "failed", test, "".join(why))

    def addExpectedFailure(self, test, error):
        self.say("failed-as-expected", test)

    def addUnexpectedSuccess(self, test):
        self.say("passed-unexpectedly", test)

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.say("failed", test, self.last(error))


def main(result):
    result.said = set()
    result.out = open(os.environ["OUTCOMES"], "w")
    chosen = sys.argv[1:]
    loader = unittest.defaultTestLoader
    suite = loader.loadTestsFromNames(chosen) if chosen else loader.discover("tests", "test_*.py", ".")
    suite.run(result)
    print("ran", result.testsRun, file=result.out, flush=True)


if __name__ == "__main__":
    main(Lines())
