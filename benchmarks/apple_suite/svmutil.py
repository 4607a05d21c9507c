"""The module that coremltools' tests import, out of `libsvm-official`, which keeps it in a package today."""

from importlib.metadata import version

from libsvm.svmutil import *  # noqa: F403  the tests take what they need

import libsvm  # isort: skip  the line above gives that name to something else
from libsvm import svm, svmutil  # isort: skip

libsvm.__version__ = version("libsvm-official")
for kinds in (
    ("C_SVC", "NU_SVC", "ONE_CLASS", "EPSILON_SVR", "NU_SVR"),
    ("LINEAR", "POLY", "RBF", "SIGMOID", "PRECOMPUTED"),
):
    for number, name in enumerate(kinds):
        globals()[name] = number
        setattr(svm, name, number)
        setattr(svmutil, name, number)
