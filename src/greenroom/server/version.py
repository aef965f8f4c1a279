"""Which greenroom this is."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("greenroom")
except PackageNotFoundError:  # from the sources, not installed
    VERSION = "0"
