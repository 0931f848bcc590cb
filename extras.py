"""The refusal for a feature whose optional dependencies are not installed.

>>> try:
...     import a_library_nobody_has
... except ImportError as error:
...     print(missing_extra("train", error))
a_library_nobody_has is not installed; it comes with the extra 'train': pip install 'brownout[train]'
"""

from __future__ import annotations

from .errors import BrownoutError


class MissingExtraError(BrownoutError, ImportError):
    """A feature was asked for whose optional dependencies are not installed."""


def missing_extra(extra: str, error: ImportError) -> MissingExtraError:
    """The error to raise in place of ``error``, naming the extra that brings the missing module.

    Args:
        extra: Name of the extra in pyproject.toml, such as ``train``.
        error: What the import raised.
    """
    message = (
        f"{error.name or error} is not installed; it comes with the extra {extra!r}: pip install 'brownout[{extra}]'"
    )
    return MissingExtraError(message, name=error.name)
