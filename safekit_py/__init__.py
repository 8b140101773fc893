"""safekit_py: load balancing and high availability for any Linux application.

In a wheel, ``plugins`` and ``modules`` are sub-packages. In a checkout they stand beside this package; its root
is then appended to ``__path__``, so that ``safekit_py.plugins`` means the same module in both.
"""

from pathlib import Path

__version__ = "0.1.0"

_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "plugins").is_dir():
    __path__.append(str(_root))
