"""A plugin of pytest's for tests that have to find a mistake: plants the one `GREENROOM_PLANT` names."""

import os

import pytest

from .old_faults import NETS

NETS[os.environ["GREENROOM_PLANT"]][0](pytest.MonkeyPatch())
