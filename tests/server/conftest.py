"""The browser of the tests of pages."""

from explorer.conftest import browser

__all__ = ["browser"]
