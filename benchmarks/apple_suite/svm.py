"""See svmutil."""

import svmutil  # noqa: F401  gives libsvm.svm the names of its kinds
from libsvm.svm import *  # noqa: F403
