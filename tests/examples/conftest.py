"""The examples are programs in a folder: what stands beside one is imported by its bare name."""

import sys
from pathlib import Path
from textwrap import dedent

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

SOURCES = {
    "app/__init__.py": "from .core import run\n",
    "app/core.py": '''
        """The core."""
        import json, os.path
        from . import _tools, Odd
        from .missing import nothing

        def run(x, y=None):
            """Documented."""
            if x and y or x:
                return [a for a in x if a]
            def inner():
                for _ in y: pass
            return inner

        class Core:
            def go(self): pass
            @property
            def size(self):
                "How large."
            @size.setter
            def size(self, value): ...
            def _hidden(self): pass
        ''',
    "app/_tools.py": "import app.core\nfrom app.sub import leaf, deep\n",
    "app/Odd.py": "def lazily():\n    from app import core\n    import app.core as again\n",
    "app/sub/__init__.py": "from .. import core\nfrom .leaf import *\n",
    "app/sub/leaf.py": "from . import deep, leaf, __name__\n",
    "app/sub/deep.py": "from ... import os\nfrom ..sub import leaf as other\n",
    "app/sub/__main__.py": "import app.nothing.such\n",
    "void/__init__.py": "",
    "ring/one.py": "from ring import two\n",
    "ring/two.py": "class Two:\n    from .one import Two as One\n",
    "loose/part.py": "import void, loose\nfrom void import x, y\n",
    "_start.py": "import app.sub.leaf\n",
    "broken.py": "print 'so it was'\nimport app\n",
    "encoded.py": b"# coding: latin-1\nname = '\xe9'\nfrom __future__ import annotations\n",
    "misencoded.py": b"name = '\xe9'\n",
    "not-a-module.py": "import app\n",
    "no-package/inside.py": "import app\n",
    "shadowed.py": "import app\n",
    "shadowed/__init__.py": "def shown():\n    'Yes.'\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree that has one of everything."""
    root = tmp_path / "tree"
    for name, text in SOURCES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else dedent(text).lstrip().encode())
    return root
