"""The errors a user may meet. Each message says what was given and what to do instead.

The command line prints the message of an `UnetcuError` on one line and exits with code 2.
"""


class UnetcuError(Exception):
    """Every error this package raises on purpose."""


class ShapeError(UnetcuError, ValueError):
    """An op was given arrays whose shapes it cannot work on."""


class GraphError(UnetcuError, RuntimeError):
    """The autograd graph was used in a way that cannot give a right gradient."""


class KernelError(UnetcuError, TypeError):
    """A kernel was launched with arguments that do not fit its C signature."""


class DeviceError(UnetcuError, RuntimeError):
    """The device asked for is not there, or not usable."""


class DataError(UnetcuError, ValueError):
    """A file, a folder or a data set cannot be read as what it was given for."""


class UsageError(UnetcuError, ValueError):
    """An option has a value that makes no sense, alone or beside another option."""


class CheckpointError(UnetcuError, ValueError):
    """A model file is damaged, from another program, or does not fit the request."""


class TrainingError(UnetcuError, ArithmeticError):
    """Training cannot go on: the loss is no longer a number."""
