"""Every error that leaves coremlops.

    CoremlopsError                    exit 1
    ├── UsageError                    exit 2   a command line or call that cannot be right
    │   ├── ConfigError                        coremlops.yaml or an MLproject file
    │   └── MissingExtraError                  an optional dependency that is not installed
    ├── ModelError                             a Core ML file
    │   ├── ModelFormatError                   bytes that are no Core ML model, or break a limit
    │   ├── WeightsError                       weights that are missing, truncated or out of range
    │   ├── UnsupportedOpsError                ops, features or model kinds that we cannot execute
    │   └── BridgeError                        what coremltools asked of Apple's framework
    ├── InputError                             values given to a model, or an input of a step
    ├── DataError                              training or proof data
    ├── WriteError                             a place that results cannot be written to
    ├── ConversionError                        a source that does not convert
    ├── StepError                              a pipeline step that failed
    ├── StoreError                             the step store
    ├── TrackingError                          MLflow
    ├── RepositoryError                        the signed repository: keys, channels, versions
    │   ├── PendingError              exit 3   ... a change waits for further signatures
    │   └── NewerFormatError                   ... a document that a newer coremlops wrote
    ├── UpdateError                            a device refused what it was offered
    │   └── GoldenError                        ... because the model does not answer as promised
    ├── ReportError                            what a device reports, or asks of the intake
    └── GateError                     exit 3   a gate said no

A message says what happened, what was expected and what was found; `hint` says what to do next.
"""

from __future__ import annotations


class CoremlopsError(Exception):
    """Base of all errors of coremlops.

    `message`: what, expected, got. `hint`: what to do; empty when there is nothing to add.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(CoremlopsError):
    """A command line or a call that cannot be right."""

    exit_code = 2


class ConfigError(UsageError):
    """`coremlops.yaml` or an `MLproject` file says something that we cannot accept."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed; the message names the command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed, and this needs it: pip install 'coremlops[{extra}]'")
        self.package = package
        self.extra = extra


class ModelError(CoremlopsError):
    """A Core ML file cannot be read or executed."""


class ModelFormatError(ModelError):
    """Bytes that are no Core ML model, or that break a limit."""


class WeightsError(ModelError):
    """Weights that are missing, truncated or out of range."""


class UnsupportedOpsError(ModelError):
    """Everything in a model that cannot be executed here, listed at once.

    `unsupported`: one `"op_type (operation name)"` each.
    """

    def __init__(self, message: str, unsupported: tuple[str, ...] = (), *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.unsupported = unsupported


class BridgeError(ModelError, RuntimeError):
    """What coremltools asked of Apple's framework failed or cannot be done here: a RuntimeError, too."""


class InputError(CoremlopsError):
    """A value given to a model, or an input of a step, is not what was declared."""


class DataError(CoremlopsError):
    """Training or proof data cannot be used."""


class WriteError(CoremlopsError):
    """Results cannot be written where they were asked for."""


class ConversionError(CoremlopsError):
    """A source model cannot be converted."""


class StepError(CoremlopsError):
    """A pipeline step failed. `log_tail`: the last lines that it wrote."""

    def __init__(self, message: str, *, step: str, log_tail: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.log_tail = log_tail


class StoreError(CoremlopsError):
    """The step store cannot be read or written."""


class TrackingError(CoremlopsError):
    """MLflow refused or could not be reached."""


class RepositoryError(CoremlopsError):
    """The signed repository cannot do what was asked."""


class PendingError(RepositoryError):
    """A change waits for further signatures; what devices get has not changed. `change`: its id."""

    exit_code = 3

    def __init__(self, message: str, change: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.change = change


class NewerFormatError(RepositoryError):
    """A document of a format that this coremlops does not know yet."""


class OlderFormatError(RepositoryError):
    """A document of a format that this coremlops reads no more."""


class UpdateError(CoremlopsError):
    """A device refused an update; the model that was active stays active."""


class GoldenError(UpdateError):
    """A model does not answer its golden set as promised."""


class ReportError(CoremlopsError):
    """A report, a count or an enrolment cannot be taken. `reason`: one word, as the intake answers it."""

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class GateError(CoremlopsError):
    """A gate said no. `failed`: one line for each gate that failed."""

    exit_code = 3

    def __init__(self, message: str, failed: tuple[str, ...] = (), *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.failed = failed
